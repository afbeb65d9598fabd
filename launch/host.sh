#!/usr/bin/env bash
# Sets up one TPU VM, in the folder that it lies in: Python 3.12, for the machines' own may be too old, and the package.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --allow-existing --python 3.12 .venv
python3 -m uv pip install --quiet --python .venv/bin/python ".[tpu,gcs]"
