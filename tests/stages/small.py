"""Networks with random weights, and what the tests of the small stages share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig
from tvt_jax.train.checkpoint import restore
from tvt_jax.train.config import TrainConfig
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh
from tvt_jax.train.state import State

SLOW = ("prior", "encoder", "adapt")


def random_params(model: nn.Module, seed: int, *inputs: Any) -> Any:
    """Parameters of the right shapes, without compiling the network's own initialisation."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0, 0.1, leaf.shape), leaf.dtype), shapes)


def random_vae(config: AutoencoderKLConfig, seed: int) -> Any:
    return random_params(AutoencoderKL(config), seed, jnp.zeros((1, 16, 16, 3)))


def random_unet(config: UNet2DConditionConfig, seed: int) -> Any:
    tokens = jnp.zeros((1, 2, config.cross_attention_dim))
    return random_params(UNet2DConditionModel(config), seed, jnp.zeros((1, 8, 8, 4)), jnp.zeros(1, int), tokens)


def marked(names: Iterable[str]) -> list[Any]:
    """Parameters of a test: `make test` trains two of the stages, `make test-all` every one."""
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in names]


def newest_state(config: TrainConfig, workdir: Path) -> State:
    """The newest checkpoint of a run, on the host."""
    program = Program(config, make_mesh(1, 1), config.stage.load())
    restored = restore(workdir / "checkpoints", program.state)
    assert restored
    return jax.device_get(restored[0])
