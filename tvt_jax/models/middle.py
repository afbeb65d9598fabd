"""The middle blocks of a VAE that has none, which diffusers asks for: written so that they change nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvt_jax.models.vae import AutoencoderKLConfig

MIDDLE = ".mid_block."


def with_middle(config: AutoencoderKLConfig, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Add the middle blocks that diffusers expects to a VAE's state dict; where it has none, they change nothing."""
    tensors = dict(tensors)
    if not config.mid_block:
        channels = config.block_out_channels[-1]
        for part in ("encoder", "decoder"):
            for resnet in ("resnets.0", "resnets.1"):
                tensors.update(_identity_resnet(f"{part}{MIDDLE}{resnet}", channels))
    return tensors


def has_middle(tensors: Mapping[str, Any]) -> bool:
    """Tell whether a VAE's state dict has middle blocks that change something."""
    middle = [name for name in tensors if MIDDLE in name]
    return any(".attentions." in name or (".conv2." in name and np.any(tensors[name])) for name in middle)


def without_middle(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Take the middle blocks away."""
    return {name: tensor for name, tensor in tensors.items() if MIDDLE not in name}


def _identity_resnet(prefix: str, channels: int) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for i in ("1", "2"):
        tensors[f"{prefix}.norm{i}.weight"] = np.ones(channels, np.float32)
        tensors[f"{prefix}.norm{i}.bias"] = np.zeros(channels, np.float32)
        tensors[f"{prefix}.conv{i}.weight"] = np.zeros((channels, channels, 3, 3), np.float32)
        tensors[f"{prefix}.conv{i}.bias"] = np.zeros(channels, np.float32)
    return tensors
