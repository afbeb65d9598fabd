"""A linear stage that learns to remove noise from pixels: what proofs and the loop's tests train."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree
from PIL import Image

from tvt_jax.data.pipeline import DataConfig
from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.pixels import from_uint8
from tvt_jax.train.config import TrainConfig
from tvt_jax.train.state import State


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyStage:
    """Mean squared error of a linear denoiser, by Adam.

    Attributes:
        learning_rate: of Adam.
        width: of the hidden layer.
        nan_at: the step whose loss is NaN.
        name: what tests of overrides change.
        sizes: the same, for a tuple.
        accumulation: as every stage has it; here it counts for nothing.
    """

    learning_rate: float = 1e-2
    width: int = 64
    nan_at: int = -1
    name: str | None = None
    sizes: tuple[int, ...] = (1,)
    accumulation: int = 1

    @property
    def evaluated(self) -> tuple[str, ...]:
        """The names of what is evaluated."""
        return ("mse",)

    def problems(self, data: DataConfig) -> Iterable[str]:
        """Take all data."""
        return ()

    def load(self) -> PyTree:
        """Give a constant."""
        return {"target": {"scale": np.full((3,), 0.5, np.float32)}}

    def abstract(self) -> PyTree:
        """Give its shape."""
        return jax.eval_shape(self.load)

    def hold(self, frozen: PyTree) -> PyTree:
        """Hold it as it is."""
        return frozen

    def init(self, rng: PRNGKeyArray, frozen: PyTree) -> State:
        """Make the state of step 0."""
        down, up = jax.random.split(rng)
        kernels = jax.random.normal(down, (3, self.width)), jax.random.normal(up, (self.width, 3))
        params = {"model": {"down": {"kernel": kernels[0]}, "up": {"kernel": kernels[1] / self.width}}}
        opt_state = {"model": self._adam().init(params["model"])}
        return State(step=jnp.int32(0), params=params, opt_state=opt_state, ema=params)

    def step(self, state: State, frozen: PyTree, batch: PyTree, rng: PRNGKeyArray) -> tuple[State, dict[str, Array]]:
        """Update the denoiser."""

        def loss(params: PyTree) -> Array:
            clean = from_uint8(batch["hr"])
            noisy = clean + 0.1 * jax.random.normal(rng, clean.shape)
            return jnp.mean((_predict(params, noisy) - clean * frozen["target"]["scale"]) ** 2)

        value, gradients = jax.value_and_grad(loss)(state.params["model"])
        updates, opt_state = self._adam().update(gradients, state.opt_state["model"])
        params = {"model": optax.apply_updates(state.params["model"], updates)}
        ema = optax.incremental_update(params, state.ema, 0.1)
        value = jnp.where(state.step + 1 == self.nan_at, jnp.nan, value)
        return dataclasses.replace(state, params=params, opt_state={"model": opt_state}, ema=ema), {"loss": value}

    def evaluate(self, state: State, frozen: PyTree, batch: PyTree) -> tuple[dict[str, Array], dict[str, Array]]:
        """Score the averaged weights."""
        clean = from_uint8(batch["hr"])
        error = (_predict(state.ema["model"], clean) - clean * frozen["target"]["scale"]) ** 2
        return {"mse": error.mean((1, 2, 3))}, {"clean": clean}

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give a kernel as if it were a VAE."""
        kernel = state.ema["model"]["down"]["kernel"]
        vae = {"encoder": {"quant_conv": {"kernel": np.asarray(kernel)[None, None]}}}
        return ModelFolder(card=ModelCard(), vae_config=AutoencoderKLConfig(), vae=vae)

    def _adam(self) -> optax.GradientTransformation:
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(self.learning_rate))


def _predict(params: PyTree, x: Array) -> Array:
    return x @ params["down"]["kernel"] @ params["up"]["kernel"]


def write_images(folder: Path) -> Path:
    """Write a dozen pictures of noise, and return their folder."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(generator.integers(0, 256, (24, 24, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def toy_config(images: Path, **changes: Any) -> TrainConfig:
    """Configure six steps of four 16x16 crops."""
    data = DataConfig(path=str(images), crop=16, batch=4, degradation=None)
    every = {"log_every": 2, "evaluate_every": 3, "save_every": 2, "evaluation_batches": 2}
    defaults: dict[str, Any] = {
        "stage": ToyStage(),
        "data": data,
        "evaluation": data,
        "steps": 6,
        "fsdp_min_mib": 0.0005,
    }
    return TrainConfig(**defaults | every | changes)


def config() -> TrainConfig:
    """Configure `train.py --config=proofs/toy.py`: TOY_IMAGES names the folder of pictures."""
    return toy_config(Path(os.environ["TOY_IMAGES"]))
