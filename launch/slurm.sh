#!/usr/bin/env bash
# Trains on GPUs, a process for each, on one node or many:
#
#   sbatch launch/slurm.sh ARGUMENTS...      as of train.py
#
# SLURM asks the processes to stop five minutes before the time is up, or when the job is preempted. They save, and the
# job is put into the queue again, at most RESTARTS times. So is one that a node's failure ended; one that ended with an
# error is not.
#SBATCH --job-name=tvt
#SBATCH --nodes=1
#SBATCH --gpus-per-node=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
trap : TERM  # this script waits for the processes, which are asked, too
srun --kill-on-bad-exit=0 "${PYTHON:-.venv/bin/python}" train.py --coordinator=auto "$@"
status=$?
if [ "$status" -ge 128 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${RESTARTS:-100}" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
