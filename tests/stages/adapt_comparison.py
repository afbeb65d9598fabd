"""One step of the adapt stage in our code and in the release's arithmetic: same weights, same noise.

As a program it prints the relative differences as JSON, in whatever precision jax has by then.
"""

import json
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from proofs import micro
from tests.models.torch_reference import random_params
from tests.stages.torch_adapt import AdaptReference
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.compute import Compute
from tvt_jax.stages.prior import prompt_embeddings
from tvt_jax.train.state import State

CHANCE = 7
# All losses count, and the release's time step and latent scale do.
STAGE = replace(
    micro.stage("adapt", Path()),
    vae=replace(micro.VAE_D4, scaling_factor=0.18215),
    latent_weight=0.4,
    perceptual=PerceptualLoss(lpips_net="vgg", lpips_weight=2.0, dists_weight=0.5),
    vsd_weight=0.7,
    time_step=1,
)


def compare() -> dict[str, float]:
    """Largest relative difference of each loss, and of each gradient in units of its tensor's largest."""
    stage = replace(STAGE, compute=Compute(dtype=jnp.dtype(jnp.float32).name))
    frozen = _frozen(stage)
    state = _state(stage, frozen)
    generator = np.random.default_rng(0)
    batch = {name: generator.integers(0, 256, (2, side, side, 3), np.uint8) for name, side in (("hr", 32), ("lr", 8))}
    with numpys_chance():
        after, metrics = jax.device_get(jax.jit(stage.step)(state, frozen, batch, jax.random.key(0)))
    reference = AdaptReference(stage, state.params, frozen, np.random.default_rng(CHANCE))
    losses = reference.step(batch["lr"], batch["hr"])
    differences = {f"loss {name}": abs(metrics[name] / loss.item() - 1) for name, loss in losses.items()}
    for group, expected in reference.gradients().items():
        # After one step Adam's first moment is a tenth of the gradient.
        moments = flatten_dict(optax.tree_utils.tree_get(after.opt_state[group], "mu"), sep="/")
        assert moments.keys() == expected.keys()
        # Below this share of the largest gradient there is nothing but rounding (a bias before a norm has none).
        floor = 1e-6 * max(np.abs(gradient).max() for gradient in expected.values())
        for path, gradient in expected.items():
            error = np.abs(10 * moments[path] - gradient).max()
            differences[f"gradient {group} {path}"] = error / max(np.abs(gradient).max(), floor)
    return {name: float(difference) for name, difference in differences.items()}


@contextmanager
def numpys_chance():
    """Let our code ask numpy's generator, as the reference does: in the same order, for the same shapes and ranges."""
    generator = np.random.default_rng(CHANCE)
    draws = {
        "randint": lambda rng, shape, first, last: jnp.asarray(generator.integers(first, last, shape)),
        "normal": lambda rng, shape: jnp.asarray(generator.normal(size=shape)),
    }
    with ExitStack() as patches:
        for name, draw in draws.items():
            patches.enter_context(mock.patch.object(jax.random, name, draw))
        yield


def _frozen(stage: AdaptStage) -> dict:
    return {
        "vae": random_params(AutoencoderKL(stage.vae), jnp.zeros((1, 8, 8, 3))),
        "prior": _random_unet(stage.prior),
        **prompt_embeddings(stage.prior.cross_attention_dim),
        "perceptual": stage.perceptual.load(),
    }


def _random_unet(config: UNet2DConditionConfig) -> dict:
    text = jnp.zeros((1, 2, config.cross_attention_dim))
    return random_params(UNet2DConditionModel(config), jnp.zeros((1, 8, 8, 4)), jnp.zeros(1, int), text)


def _state(stage: AdaptStage, frozen: dict) -> State:
    """Of step 0, but with LoRA and the new level away from their start, where most gradients are 0."""
    shapes = jax.eval_shape(stage.init, jax.random.key(0), frozen)
    generator = np.random.default_rng(1)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 25
        return jnp.asarray(generator.standard_normal(leaf.shape) * fan_in**-0.5 + (leaf.ndim == 1), leaf.dtype)

    params = jax.tree.map(draw, shapes.params)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes.opt_state)
    return State(step=jnp.int32(0), params=params, opt_state=zeros, ema=params["student"])


if __name__ == "__main__":
    print(json.dumps(compare()))
