"""Checkpoints: state, data position and timer together, written in the background, whole or not at all."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from orbax.checkpoint import v1 as ocp

from tvt_jax.files import files_below, modified, remove
from tvt_jax.metrics import MORE_IS_BETTER
from tvt_jax.place import Place, absolute
from tvt_jax.train.lock import Check
from tvt_jax.train.state import State

_METADATA = "_CHECKPOINT_METADATA"
_WHOLE = "commit_success.txt"  # in a bucket, which can't rename, Orbax writes it last


class Checkpoints:
    """The newest `keep` checkpoints under `folder`, one sub-folder a step; one process at a time writes there.

    Where `best` names a metric, the checkpoint that was evaluated best by it stays beside them.
    """

    def __init__(self, folder: Place, keep: int, best: str | None = None, check: Check = lambda: None) -> None:
        """Make the folder; remove what a save that was cut off has left. `check` is asked before each save."""
        self._folder, self._check = absolute(folder), check
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep)]
        if best:
            score = partial(_score, metric=best)
            kept.append(policies.BestN(get_metric_fn=score, n=1, keep_checkpoints_without_metrics=False))
        self._policy = policies.AnyPreservationPolicy(kept)
        self._writer = self._open()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last save."""
        self._writer.close()

    def restore(self, abstract: State) -> tuple[State, dict[str, Any]] | None:
        """Restore as the function `restore` does; set aside what cannot be read as `STEP.corrupt`."""
        restored = restore(self._folder, abstract)
        corrupt = [step for step in _steps(self._folder) if restored and step > int(restored[0].step)]
        for step in corrupt if jax.process_index() == 0 else ():
            aside = self._folder / f"{step}.corrupt"
            remove(aside)
            (self._folder / str(step)).rename(aside)
        if corrupt:
            self.wait()
        return restored

    def save(self, state: State, host: dict[str, Any], metrics: dict[str, float] | None = None) -> None:
        """Start writing; return once the state is copied, so that the next step may overwrite it.

        Args:
            state: of any sharding.
            host: JSON kept with the state (data position, timer).
            metrics: what the evaluation of this state gave, if there was one.

        Raises:
            FloatingPointError: the state holds a NaN or an infinity; nothing is written.
            OSError: this or the previous save failed, or another run has taken over; earlier ones are untouched.
        """
        self._check()
        checksum, finite = _inspect(state)
        step = int(state.step)
        if not finite:
            raise FloatingPointError(f"the parameters are not finite at step {step}")
        metadata = {"host": host, "shapes": _shapes(state), "checksum": checksum}
        with _storage_errors(f"could not write the checkpoint of step {step}"):
            self._writer.save_checkpointables_async(
                step, {"state": state}, force=True, overwrite=True, metrics=metrics, custom_metadata=metadata
            )

    def wait(self) -> None:
        """Wait until the last save is on disk.

        Raises:
            OSError: it could not be written.
        """
        with _storage_errors("could not write the last checkpoint"):
            self._writer.close()
        self._writer = self._open()

    def _open(self) -> ocp.training.Checkpointer:
        return ocp.training.Checkpointer(self._folder, preservation_policy=self._policy, cleanup_tmp_directories=True)


def written_since(checkpoint: Place, path: Place) -> bool:
    """Tell whether a file is no older than a checkpoint."""
    return modified(path) >= modified(checkpoint / _METADATA)


def newest(folder: Place) -> Place | None:
    """Return the folder of the newest checkpoint, or None."""
    steps = _steps(folder)
    return folder / str(steps[-1]) if steps else None


def restore(folder: Place, abstract: State) -> tuple[State, dict[str, Any]] | None:
    """Read the newest checkpoint that can be read, and the JSON kept with it; None when there are no checkpoints.

    One that cannot be read is reported, and the one before it is taken. Nothing on disk changes.

    Args:
        folder: of the checkpoints.
        abstract: shapes, dtypes and shardings to restore to, whatever those at the save were.

    Raises:
        ValueError: the checkpoint is of another model.
        OSError: there are checkpoints, and none can be read.
    """
    steps = _steps(folder)
    for step in reversed(steps):
        try:
            return _load(absolute(folder) / str(step), abstract)
        except _OtherModelError as error:
            raise ValueError(str(error)) from error
        except Exception as error:  # a damaged file surfaces as many types
            print(f"warning: the checkpoint of step {step} cannot be read: {_reason(error)}", file=sys.stderr)
    if steps:
        raise OSError(f"no checkpoint in {folder} can be read; to start again, use another workdir")
    return None


def restore_best(folder: Place, abstract: State, metric: str) -> tuple[State, dict[str, Any]]:
    """Read the checkpoint that was evaluated best by a metric, and the JSON kept with it; nothing on disk changes.

    Args:
        folder: of the checkpoints.
        abstract: as of `restore`.
        metric: its name in the evaluation.

    Raises:
        FileNotFoundError: no checkpoint was evaluated by it.
        ValueError: the checkpoint is of another model.
        OSError: it cannot be read.
    """
    best = _best_step(folder, metric)
    if best is None:
        raise FileNotFoundError(f"no checkpoint in {folder} was evaluated by {metric}")
    try:
        return _load(absolute(folder) / str(best), abstract)
    except _OtherModelError as error:
        raise ValueError(str(error)) from error
    except Exception as error:
        raise OSError(f"the checkpoint of step {best} cannot be read: {_reason(error)}") from error


def _best_step(folder: Place, metric: str) -> int | None:
    if not _steps(folder):
        return None
    with ocp.training.Checkpointer(absolute(folder)) as reader:
        scores = {checkpoint.step: _score(checkpoint.metrics or {}, metric) for checkpoint in reader.checkpoints}
    best = max(scores, key=lambda step: (scores[step], step))
    return best if scores[best] > -math.inf else None


def _score(metrics: dict[str, float], metric: str) -> float:
    """Turn a metric's value into a score, of which more is better; -inf where there is none, or it is not finite."""
    value = metrics.get(metric, math.nan)
    return (value if metric in MORE_IS_BETTER else -value) if math.isfinite(value) else -math.inf


def _steps(folder: Place) -> list[int]:
    if not isinstance(folder, Path):
        whole = [path.parent for path in files_below(folder) if path.name == _WHOLE]
        return sorted(int(path.name) for path in whole if path.name.isdigit() and path.parent == folder)
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def _load(path: Place, abstract: State) -> tuple[State, dict[str, Any]]:
    metadata = ocp.checkpointables_metadata(path).custom_metadata
    _check_same_model(metadata["shapes"], _shapes(abstract), path)
    state = ocp.load_checkpointables(path, {"state": abstract})["state"]
    if _inspect(state)[0] != metadata["checksum"]:
        raise OSError("its checksum differs")
    return state, metadata["host"]


@contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    """Turn whatever the storage library raises into an OSError with its cause in one sentence."""
    try:
        yield
    except Exception as error:
        raise OSError(f"{what}: {_reason(error)}; earlier checkpoints are untouched") from error


class _OtherModelError(Exception):
    """The checkpoint is whole, but not of the model asked for."""


def _reason(error: BaseException) -> str:
    """Give the innermost cause in one short line; the storage library wraps it several times."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def _shapes(state: State) -> dict[str, str]:
    """Return type and shape of every array by its name, as kept beside the checkpoint."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _check_same_model(saved: dict[str, str], wanted: dict[str, str], path: Place) -> None:
    differing = [name for name in sorted(saved | wanted) if saved.get(name) != wanted.get(name)]
    if differing:
        name = differing[0]
        raise _OtherModelError(
            f"{path} is of another model: {len(differing)} arrays differ, among them {name} "
            f"({saved.get(name, 'absent')} there, {wanted.get(name, 'absent')} in the config); use another workdir"
        )


def _inspect(state: State) -> tuple[int, bool]:
    """Compute a checksum that any flipped bit changes and no sharding does; tell whether all numbers are finite."""
    checksum, finite = 0, True
    # Array by array: a program for each shape compiles in a moment, one for a thousand arrays takes minutes.
    for total, is_finite in jax.device_get([_inspect_array(leaf) for leaf in jax.tree.leaves(state)]):
        checksum = (checksum * 31 + int(total)) % 2**32
        finite &= bool(is_finite)
    return checksum, finite


@jax.jit
def _inspect_array(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
    bits = leaf.view(f"uint{leaf.dtype.itemsize * 8}").astype(jnp.uint32)
    finite = jnp.isfinite(leaf).all() if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.bool_(True)
    return jnp.sum(bits), finite
