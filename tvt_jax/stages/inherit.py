"""Start one network from another's weights wherever a tensor of the same role has the same shape."""

import re

from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from tvt_jax.models.vae import AutoencoderKLConfig


def inherit(params: PyTree, source: PyTree) -> PyTree:
    """Replace each parameter of `params` by that of the same path in `source`, where the shapes agree."""
    flat, other = flatten_dict(params), flatten_dict(source)
    return unflatten_dict(
        {
            path: other[path] if path in other and other[path].shape == leaf.shape else leaf
            for path, leaf in flat.items()
        }
    )


def align_vae(source: PyTree, source_config: AutoencoderKLConfig, config: AutoencoderKLConfig) -> PyTree:
    """Rename the levels of an 8x VAE so that equal image resolutions have equal names in a 4x VAE.

    The encoder's levels count from the image and keep their names; the decoder's count from the latent, so the
    first ones fall away.
    """
    shift = len(source_config.block_out_channels) - len(config.block_out_channels)
    decoder = {}
    for name, module in source["decoder"].items():
        match = re.fullmatch(r"up_blocks_(\d+)", name)
        if match and int(match[1]) < shift:
            continue
        decoder[f"up_blocks_{int(match[1]) - shift}" if match else name] = module
    return {**source, "decoder": decoder}
