"""The student UNet: the prior's, one level higher or as it is, of frozen weights, LoRA, and what is trained whole."""

import re
from dataclasses import replace

from flax.traverse_util import flatten_dict
from jaxtyping import PRNGKeyArray, PyTree

from tvt_jax.models.shapes import initial_params
from tvt_jax.models.unet import PLAIN_BLOCK, UNet2DConditionConfig
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


def added_levels(student: UNet2DConditionConfig, prior: UNet2DConditionConfig) -> int:
    """Count the levels that the student has more than the prior.

    Raises:
        ValueError: it is neither of the prior's shape nor one level higher.
    """
    added = len(student.block_out_channels) - len(prior.block_out_channels)
    if added not in (0, 1) or student.block_out_channels[added:] != prior.block_out_channels:
        raise ValueError(
            f"student.block_out_channels={student.block_out_channels} must be the prior's, "
            f"{prior.block_out_channels}, or those with one level before them"
        )
    return added


def shift_levels(prior: PyTree, added: int) -> PyTree:
    """Rename the prior's parameters to their place in the student: `down_blocks_i` to `down_blocks_(i + added)`."""
    return {
        re.sub(r"^down_blocks_(\d+)$", lambda match: f"down_blocks_{int(match[1]) + added}", name): module
        for name, module in prior.items()
    }


def is_new(path: tuple[str, ...], levels: int) -> bool:
    """Tell whether a parameter of a student of `levels` levels, one of them new, belongs to that one or to an end."""
    new_modules = ("conv_in", "conv_out", "down_blocks_0", f"up_blocks_{levels - 1}")
    return path[0] in new_modules or path[:2] == (f"up_blocks_{levels - 2}", "upsamplers_0")


def takes_lora(path: tuple[str, ...]) -> bool:
    """Tell whether an inherited layer carries LoRA: all do but the time embedding."""
    return not any(name in path for name in _WITHOUT_LORA)


def init_student(rng: PRNGKeyArray, config: UNet2DConditionConfig, prior: PyTree, added: int) -> PyTree:
    """Make all parameters of the student before training.

    Inherited layers are the prior's. A new level starts from the prior's own first level where the shapes agree.
    """
    last = len(config.block_out_channels) - 1
    neighbours = {"down_blocks_0": prior["down_blocks_0"], f"up_blocks_{last}": prior[f"up_blocks_{last - added}"]}
    return inherit(initial_params(rng, config), {**shift_levels(prior, added), **neighbours})


def split_trained(
    params: PyTree, levels: int, added: int, whole: bool, besides: tuple[str, ...] = ()
) -> tuple[dict, dict]:
    """Split a student's flat parameters into (trained whole, frozen).

    Trained whole are all of them where `whole` says so, else a new level and both ends, or where no level is new the
    modules `besides`: there both ends carry LoRA as every other layer.
    """
    flat = flatten_dict(params)
    trained = {
        path: leaf for path, leaf in flat.items() if whole or path[0] in besides or (added and is_new(path, levels))
    }
    return trained, {path: leaf for path, leaf in flat.items() if path not in trained}
