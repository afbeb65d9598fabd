"""Weights lie in memory once while they are read."""

import subprocess
import sys

import numpy as np
import pytest

from tvt_jax.tensors import write_tensors

READ = """
import resource, sys
from pathlib import Path
from tvt_jax.tensors import read_weights
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
weights = read_weights(Path(sys.argv[1]))
print((peak() - before) * 1024 / sum(each.nbytes for each in weights.values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts in Linux's units")
def test_weights_are_in_memory_once(tmp_path):
    """With the whole file mapped, what was read of it counts too: twice the weights, where a container sets a limit."""
    file = tmp_path / "weights.safetensors"
    kernel = np.ones((512, 256, 3, 1), np.float32)
    write_tensors(file, {f"down.{i}.conv.weight": kernel for i in range(256)}, "float32")
    done = subprocess.run([sys.executable, "-c", READ, file], capture_output=True, text=True, check=True)
    # A quarter of the file is mapped at a time.
    assert float(done.stdout) < 1.4
