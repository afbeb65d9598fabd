"""Whether a run has where to write, asked before anything is compiled."""

import shutil
import tempfile
from pathlib import Path

import jax

from tvt_jax.train.state import State


def prepare(workdir: Path) -> None:
    """Make the workdir, and see that it can be written.

    Raises:
        OSError: it cannot be made, or not be written into.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=workdir) as file:
            file.write(bytes(4096))
    except OSError as error:
        message = f"the workdir {workdir} cannot be written: {error.strerror}; choose another by --workdir"
        raise OSError(message) from error


def check_space(workdir: Path, state: State) -> None:
    """Check that there is room for a checkpoint: better before the first step than after the last.

    Args:
        workdir: of the run, which is there.
        state: shapes and types are enough.

    Raises:
        OSError: there is no room for one more checkpoint.
    """
    wanted = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(workdir).free
    if free < wanted:
        raise OSError(
            f"the workdir {workdir} has {free / 2**20:,.1f} MiB left, and a checkpoint takes {wanted / 2**20:,.1f}: "
            "make room, or choose another by --workdir"
        )
