"""What tensors a network has, by its configuration alone, and their values before training."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from tvt_jax.models.discriminator import PatchDiscriminator, PatchDiscriminatorConfig
from tvt_jax.models.keys import tree_to_torch
from tvt_jax.models.tagger import RAM, TaggerConfig
from tvt_jax.models.text_encoder import CLIPTextConfig, CLIPTextModel
from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig

Config = AutoencoderKLConfig | UNet2DConditionConfig | CLIPTextConfig | TaggerConfig
Shapes = dict[str, tuple[int, ...]]


def initial_params(rng: PRNGKeyArray, config: Config | PatchDiscriminatorConfig) -> PyTree:
    """Draw a network's parameters, float32."""
    number = jnp.zeros(1, int)
    match config:
        case AutoencoderKLConfig():
            side = 2 * config.downsampling
            variables = AutoencoderKL(config).init(rng, jnp.zeros((1, side, side, 3)))
        case UNet2DConditionConfig():
            side = 2 ** len(config.block_out_channels)
            latent, text = jnp.zeros((1, side, side, config.latent_channels)), (1, 1, config.cross_attention_dim)
            variables = UNet2DConditionModel(config).init(rng, latent, number, jnp.zeros(text))
        case CLIPTextConfig():
            variables = CLIPTextModel(config).init(rng, number[None])
        case TaggerConfig():
            side = config.swin.image_size
            variables = RAM(config).init(rng, jnp.zeros((1, side, side, 3)))
        case PatchDiscriminatorConfig():
            variables = PatchDiscriminator(config).init(rng, jnp.zeros((1, 64, 64, 3)))
    return variables["params"]


@cache
def param_shapes(config: Config) -> PyTree:
    """Give the tree of a network's parameters as shapes, without making it."""
    return jax.eval_shape(partial(initial_params, config=config), jax.random.key(0))


def tensor_shapes(config: Config) -> Shapes:
    """Give diffusers' (transformers') name and shape of every tensor of a network, without making it."""
    return {name: x.shape for name, x in tree_to_torch(jax.tree.map(_stand_in, param_shapes(config))).items()}


def named_shapes(params: PyTree) -> Shapes:
    """Give the shapes of a tree (arrays, or shapes) by path, such as `encoder/conv_in/kernel`."""
    leaves: list[tuple[Any, Any]] = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def _stand_in(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """Make an array of that shape that takes no memory."""
    return np.broadcast_to(np.float32(0), leaf.shape)
