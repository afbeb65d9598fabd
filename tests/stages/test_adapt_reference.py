"""The adapt step is the release's: every loss and every gradient, against its arithmetic in torch and float64."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
# Float32 is written out in many places; under this program it means float64 in all of them.
IN_FLOAT64 = """
import runpy, jax, jax.numpy
jax.config.update("jax_enable_x64", True)
jax.numpy.float32 = jax.numpy.float64
runpy.run_module("tests.stages.adapt_comparison", run_name="__main__")
"""


def test_in_float64(cache):
    """What is left is of float32 tables: the noise schedule, and ImageNet's mean and deviation."""
    command = [sys.executable, "-c", IN_FLOAT64]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | cache, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout)
    assert {name: value for name, value in differences.items() if not value < 1e-5} == {}
