"""A model folder's networks on the device, compiled once a shape."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tvt_jax.model_folder import ModelFolder
from tvt_jax.models.unet import UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, Posterior

Images = Float[Array | np.ndarray, "b h w 3"]
Latents = Float[Array | np.ndarray, "b h w c"]
Text = Float[Array | np.ndarray, "b n d"]


class VAE:
    """The folder's VAE."""

    def __init__(self, folder: ModelFolder, dtype: jnp.dtype, placement: NamedSharding) -> None:
        if folder.vae_config is None:
            raise ValueError("the model folder was read without its VAE")
        self.config = folder.vae_config
        self._model = AutoencoderKL(folder.vae_config, dtype=dtype)
        self._params = _place(folder.vae, dtype, placement)

    def encode(self, x: Images) -> Posterior:
        """Encode images in [-1, 1] whose sides are multiples of `config.downsampling`."""
        return apply(self._model, self._params, x, method="encode")

    def decode(self, z: Latents) -> Float[Array, "b h2 w2 3"]:
        """Decode latents to images about [-1, 1], not clipped."""
        return apply(self._model, self._params, z, method="decode")

    def to_latent(self, x: Images, rng: PRNGKeyArray | None = None) -> Float[Array, "b h2 w2 c"]:
        """Encode images to scaled latents: the posterior's mean, or with `rng` a sample."""
        return apply(self._model, self._params, x, rng, method="to_latent")

    def to_image(self, z: Latents) -> Float[Array, "b h2 w2 3"]:
        """Decode scaled latents to images about [-1, 1], not clipped."""
        return apply(self._model, self._params, z, method="to_image")


class UNet:
    """The folder's UNet, which predicts the noise in scaled latents."""

    def __init__(self, folder: ModelFolder, dtype: jnp.dtype, placement: NamedSharding) -> None:
        if folder.unet_config is None:
            raise ValueError("the model folder has no UNet")
        if folder.prompt_embedding is None:
            raise ValueError("the model folder has a UNet but no prompt_embedding.safetensors, which it needs to run")
        self.config = folder.unet_config
        self._model = UNet2DConditionModel(folder.unet_config, dtype=dtype)
        self._params = _place(folder.unet, dtype, placement)
        self._prompt = folder.prompt_embedding[None]
        self._placement = placement

    def __call__(
        self, z: Latents, t: Int[Array | np.ndarray, " b"], text_embedding: Text | None = None
    ) -> Float[Array, "b h w c"]:
        """Predict the noise in `z` at time steps `t`; without a text embedding for the folder's own prompt."""
        text = self._prompt if text_embedding is None else text_embedding
        text = jax.device_put(np.broadcast_to(text, (len(z), *text.shape[1:])), self._placement)
        return apply(self._model, self._params, z, t, text)


@partial(jax.jit, static_argnames=("model", "method"))
def apply(model: nn.Module, params: PyTree, *inputs: Array | None, method: str | None = None) -> Any:
    """Apply `model`; a program is compiled for each configuration and shape, whatever the parameters."""
    return model.apply({"params": params}, *inputs, method=method)


def _place(params: PyTree, dtype: jnp.dtype, placement: NamedSharding) -> PyTree:
    return jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params), placement)
