"""Whether a run has where to write, asked before anything is compiled."""

import json
import secrets
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tvt_jax import bucket
from tvt_jax.files import remove
from tvt_jax.place import Place
from tvt_jax.train.state import State

_PATIENCE = 5.0  # seconds until what one host wrote must be seen by all


def prepare(workdir: Place) -> None:
    """Make the workdir, and see that it can be written.

    Raises:
        OSError: it cannot be made, or not be written into.
    """
    try:
        if isinstance(workdir, Path):
            workdir.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=workdir) as file:
                file.write(bytes(4096))
        else:
            probe = workdir / f".{secrets.token_hex(8)}"
            probe.write_bytes(bytes(4096))
            probe.unlink()
    except Exception as error:  # the bucket's library raises many types
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        message = f"the workdir {workdir} cannot be written: {reason}; choose another by --workdir"
        raise OSError(message) from error


def check_shared(workdir: Place) -> None:
    """Check that all hosts see the same workdir.

    Raises:
        OSError: another than the first does not see what that one writes; every host raises it.
    """
    if jax.process_count() == 1:
        return
    number = int(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32))))
    token = workdir / f".shared_{number:08x}"
    if jax.process_index() == 0:
        token.write_text("")
    multihost_utils.sync_global_devices("workdir written")
    seen = np.asarray(multihost_utils.process_allgather(np.bool_(_appears(token)))).reshape(-1)
    if jax.process_index() == 0:
        token.unlink()
    if not seen.all():
        raise OSError(
            f"the workdir {workdir} is not the same folder on all hosts: process {int(seen.argmin())} does not see "
            f"what process 0 writes (this is process {jax.process_index()} on {socket.gethostname()}); choose one that "
            "all hosts share by --workdir"
        )


def _appears(path: Place) -> bool:
    until = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
        if not isinstance(path, Path):
            bucket.listing(path)
    return True


def read_config(workdir: Place) -> Any:
    """Read the configuration that the workdir was last trained with; None where there is none.

    Raises:
        ValueError: it is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, and the run goes on without comparing it with the configuration"
        ) from error


def check_space(workdir: Place, state: State, keep: int, best: bool) -> None:
    """Check that there is room for the checkpoints: better before the first step than after the last.

    An old checkpoint goes when a new one is whole, so that there is one more than `keep` for a while; those that are
    there already need no more room. What a save that was cut off has left is removed first. A bucket is never full.

    Args:
        workdir: of the run, which is there.
        state: shapes and types are enough.
        keep: checkpoints that stay.
        best: whether the best stays beside them.

    Raises:
        OSError: there is no room for them.
    """
    if not isinstance(workdir, Path):
        return
    folder = workdir / "checkpoints"
    for leftover in folder.glob("*.orbax-checkpoint-tmp*") if jax.process_index() == 0 else ():
        remove(leftover)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    there = sum(path.name.isdigit() for path in folder.glob("*"))
    count = max(keep + best + 1 - there, 1)
    free = shutil.disk_usage(workdir).free
    if free < count * size:
        raise OSError(
            f"the workdir {workdir} has {free / 2**20:,.1f} MiB left, and {count} checkpoints take "
            f"{count * size / 2**20:,.1f}: make room, or choose another by --workdir"
        )
