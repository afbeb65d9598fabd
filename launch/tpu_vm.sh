#!/usr/bin/env bash
# Trains on a TPU VM slice, of one host or many: makes it, sets up its hosts, trains, and deletes it.
#
#   launch/tpu_vm.sh NAME ZONE TYPE VERSION ARGUMENTS...      as of train.py; the workdir is a bucket's
#
# A slice that is preempted is made again, and training goes on. It stays where train.py ends with an error.
# ON_DEMAND=1 asks for a slice that is not preempted. WAIT is how many seconds the cloud is given to see that a slice is
# gone, or to find a free one. JAX_COMPILATION_CACHE_DIR=gs://BUCKET/compiled keeps the compiled step for the next slice.
set -euo pipefail
if [ $# -lt 5 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
name=$1 zone=$2 type=$3 version=$4
shift 4
cd "$(dirname "$0")/.."
wait=${WAIT:-120}
spot=--spot
[ -z "${ON_DEMAND:-}" ] || spot=
cache=${JAX_COMPILATION_CACHE_DIR:+JAX_COMPILATION_CACHE_DIR=$JAX_COMPILATION_CACHE_DIR}
train="cd tvt-jax && $cache .venv/bin/python train.py --coordinator=auto $(printf '%q ' "$@")"

tpu() { gcloud compute tpus tpu-vm "$@" --zone="$zone" --quiet; }
everywhere() { tpu ssh "$name" --worker=all --command="$1"; }
state() { tpu describe "$name" --format='value(state)' 2> /dev/null || echo ABSENT; }

make_slice() {
  until [ "$(state)" = READY ]; do
    [ "$(state)" = ABSENT ] || tpu delete "$name"
    tpu create "$name" --accelerator-type="$type" --version="$version" $spot || sleep "$wait"
  done
}

# Sends the tracked files as they are now, committed or not.
set_up() {
  archive=$(mktemp) && changed=$(git stash create) &&
    git archive --format=tar.gz --output="$archive" "${changed:-HEAD}" &&
    tpu scp "$archive" "$name:tvt-jax.tar.gz" --worker=all && rm "$archive" &&
    everywhere 'mkdir -p tvt-jax && tar -xzf tvt-jax.tar.gz -C tvt-jax && bash tvt-jax/launch/host.sh'
}

until make_slice && set_up && everywhere "$train"; do
  sleep "$wait"
  if [ "$(state)" = READY ]; then
    echo "error: it failed on a slice that is there, see above; the same command goes on, and this one ends the costs:" >&2
    echo "gcloud compute tpus tpu-vm delete $name --zone=$zone" >&2
    exit 1
  fi
  echo "the slice $name is $(state): making it again"
done
tpu delete "$name"
