"""The student UNet: the prior's, one level higher, made of frozen weights, LoRA, and the new level's own."""

import re
from dataclasses import replace

import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import PRNGKeyArray, PyTree

from tvt_jax.models.unet import PLAIN_BLOCK, UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.stages.inherit import inherit

# PEFT's targets in the release: attention, feed-forward, projections and convolutions, not the time embedding.
_WITHOUT_LORA = ("time_embedding", "time_emb_proj")


def add_level(
    prior: UNet2DConditionConfig, block_type: str = PLAIN_BLOCK, window: int | None = None
) -> UNet2DConditionConfig:
    """Add one level above the prior's first, of the same width.

    Args:
        prior: shape of the pretrained UNet.
        block_type: of the new level; with DownBlock2D it has no attention.
        window: side of the windows that the new level's self-attention is kept within.
    """
    windows = (window, *prior.windows)
    return replace(
        prior,
        block_out_channels=(prior.block_out_channels[0], *prior.block_out_channels),
        down_block_types=(block_type, *prior.down_block_types),
        attention_heads=(prior.attention_heads[0], *prior.attention_heads),
        attention_windows=windows if any(windows) else None,
    )


def shift_levels(prior: PyTree) -> PyTree:
    """Rename the prior's parameters to their place in the student: `down_blocks_i` to `down_blocks_(i+1)`."""
    return {
        re.sub(r"^down_blocks_(\d+)$", lambda match: f"down_blocks_{int(match[1]) + 1}", name): module
        for name, module in prior.items()
    }


def is_new(path: tuple[str, ...], levels: int) -> bool:
    """Whether a parameter of a student of `levels` levels is trained whole: the new level and both ends."""
    new_modules = ("conv_in", "conv_out", "down_blocks_0", f"up_blocks_{levels - 1}")
    return path[0] in new_modules or path[:2] == (f"up_blocks_{levels - 2}", "upsamplers_0")


def takes_lora(path: tuple[str, ...], levels: int) -> bool:
    """Whether a layer of the student carries LoRA: an inherited one, the time embedding excepted."""
    return not is_new(path, levels) and not any(name in path for name in _WITHOUT_LORA)


def init_student(rng: PRNGKeyArray, config: UNet2DConditionConfig, prior: PyTree) -> PyTree:
    """All parameters of the student before training.

    Inherited layers are the prior's. The new level starts from the prior's own first level where the shapes agree.
    """
    tokens = jnp.zeros((1, 1, config.cross_attention_dim))
    latent = jnp.zeros((1, 16, 16, config.latent_channels))
    params = UNet2DConditionModel(config).init(rng, latent, jnp.zeros(1, int), tokens)["params"]
    last = len(config.block_out_channels) - 1
    neighbours = {"down_blocks_0": prior["down_blocks_0"], f"up_blocks_{last}": prior[f"up_blocks_{last - 1}"]}
    return inherit(params, {**shift_levels(prior), **neighbours})


def split_new(params: PyTree, config: UNet2DConditionConfig) -> tuple[dict, dict]:
    """Split flat parameters into (new, inherited)."""
    levels = len(config.block_out_channels)
    flat = flatten_dict(params)
    new = {path: leaf for path, leaf in flat.items() if is_new(path, levels)}
    return new, {path: leaf for path, leaf in flat.items() if path not in new}
