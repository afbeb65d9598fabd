"""The log in Weights & Biases, for those who ask for it."""

import secrets
from pathlib import Path
from typing import Any

import numpy as np

from tvt_jax.files import write_whole
from tvt_jax.place import Place, absolute
from tvt_jax.train.config import TrainConfig, to_json


class WandbRun:
    """One run there for all runs in the workdir: its name is kept in `workdir/wandb_id`."""

    def __init__(self, workdir: Place, folder: Path, config: TrainConfig) -> None:
        """Begin the run, or go on with it; `WANDB_MODE=offline` keeps it in `folder/wandb`.

        Raises:
            ValueError: wandb is not installed.
        """
        self._wandb = _import()
        path = workdir / "wandb_id"
        if not path.exists():
            write_whole(path, secrets.token_hex(4))
        self._run = self._wandb.init(
            project=config.wandb,
            id=path.read_text(),
            name=absolute(workdir).name,
            resume="allow",
            dir=str(folder),
            config=to_json(config),
        )
        # Not wandb's own count, which never goes back: steps that a kill has lost are logged again.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, kind: str, metrics: dict[str, float], step: int) -> None:
        """Send the metrics of a step, named `kind/name`."""
        self._run.log({"step": step} | {f"{kind}/{name}": value for name, value in metrics.items()})

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Send a picture, uint8 [h w 3]."""
        self._run.log({"step": step, name: self._wandb.Image(pixels)})

    def close(self) -> None:
        """Send what is not sent yet."""
        self._run.finish()


def check(config: TrainConfig) -> None:
    """Check, before anything is compiled, that wandb is there if it is wanted.

    Raises:
        ValueError: the config wants wandb, and it is not installed.
    """
    if config.wandb:
        _import()


def _import() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ValueError("config.wandb is set, and wandb is not installed: pip install 'tvt-jax[wandb]'") from error
    return wandb
