"""Scores of the checkpoints of a training run, as they appear."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tvt_jax.evaluation.evaluate import run
from tvt_jax.evaluation.pairs import find_pairs
from tvt_jax.files import check_writable, modified
from tvt_jax.place import Place
from tvt_jax.train.checkpoint import newest
from tvt_jax.train.config import TrainConfig, differences, load_config, to_json
from tvt_jax.train.loop import export
from tvt_jax.train.workdir import read_config

_PAUSE = 10.0  # seconds between looks at the workdir


def follow(
    workdir: Place,
    config: Path,
    overrides: Sequence[str],
    *,
    lr: Path,
    hr: Path,
    metrics: str,
    out: Path,
    patience: float,
    **scoring: Any,
) -> int:
    """Write `out/STEP.json` for the newest checkpoint whenever there is another, until that of the run's last step.

    Checkpoints that come and go while one is scored are passed over. What is scored already is not scored again.

    Args:
        workdir: of the run; it need not be there yet.
        config: file of its configuration, which says how a checkpoint becomes a model.
        overrides: changes to it, as they were given to train.py; its length and cadence may differ.
        lr: folder of inputs.
        hr: folder of the truth.
        metrics: names joined by commas.
        out: folder to write into.
        patience: minutes to wait for a new checkpoint or a line in the run's log, before the run is taken for dead.
        scoring: more of what `run` takes.

    Returns:
        0, or 1 if a picture was missing or bad.

    Raises:
        FileNotFoundError: a folder of pictures is not there.
        TimeoutError: nothing came for so long.
        ValueError: the run was started with another configuration, the stage trains no UNet, no pictures belong
            together, or nothing can be written into `out`.
    """
    loaded = load_config(config, overrides)
    find_pairs(lr, hr, scoring.get("sr_suffix", ""))  # what is wrong with them is told before an hour's wait
    check_writable(out / "0.json")
    if not workdir.is_dir():
        print(f"{workdir} is not there: waiting {patience:g} minutes for a run to begin", file=sys.stderr, flush=True)
    status, seen = 0, None
    while True:
        checkpoint = _wait_for_another(seen, workdir, patience)
        steps = _steps(loaded, workdir)
        with TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            step = export(loaded, workdir, model)
            result = out / f"{step}.json"
            status |= run(lr=lr, sr=None, hr=hr, model=model, metrics=metrics, out=result, save=None, **scoring)
        if int(checkpoint.name) >= steps:
            return status
        seen = checkpoint


def _wait_for_another(seen: Place | None, workdir: Place, patience: float) -> Place:
    """Wait for a checkpoint other than the one seen; time is this machine's, not that of the files."""
    before, since = None, time.monotonic()
    while (checkpoint := newest(workdir / "checkpoints")) is None or checkpoint == seen:
        log = workdir / "metrics.jsonl"
        life = modified(log) if log.exists() else None
        if life != before:
            before, since = life, time.monotonic()
        if time.monotonic() - since > 60 * patience:
            raise TimeoutError(
                f"{workdir} has had no new checkpoint and no line in its log for {patience:g} minutes: once it trains "
                "again, the same command goes on; --patience waits longer"
            )
        time.sleep(_PAUSE)
    return checkpoint


def _steps(config: TrainConfig, workdir: Place) -> int:
    """Read the length of the run from what it was last started with; raise ValueError where it is another run."""
    started = read_config(workdir)
    if changed := differences(started, to_json(config)):
        raise ValueError("the run in {} has another configuration:\n  {}".format(workdir, "\n  ".join(changed)))
    return started["steps"]
