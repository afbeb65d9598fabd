"""A model folder's networks on the device, compiled once a shape."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tvt_jax.diffusion import OneStep, restore_latent
from tvt_jax.inference.adapters import TRAINED, Strengths, TwoPasses
from tvt_jax.inference.statistics import Norms, Statistics, with_norms
from tvt_jax.model_folder import ModelFolder
from tvt_jax.models.unet import UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, Posterior

Images = Float[Array | np.ndarray, "b h w 3"]
Latents = Float[Array | np.ndarray, "b h2 w2 c"]
Text = Float[Array | np.ndarray, "b n d"]


class VAE:
    """The folder's VAE."""

    def __init__(self, folder: ModelFolder, dtype: jnp.dtype, placement: NamedSharding) -> None:
        if folder.vae_config is None:
            raise ValueError("the model folder was read without its VAE")
        self.config = folder.vae_config
        self.network = AutoencoderKL(folder.vae_config, dtype=dtype)
        self.params = _place(folder.vae, dtype, placement)

    def encode(self, x: Images) -> Posterior:
        """Encode images in [-1, 1] whose sides are multiples of `config.downsampling`."""
        return apply(self.network, self.params, x, method="encode")

    def decode(self, z: Latents) -> Float[Array, "b h w 3"]:
        """Decode latents to images about [-1, 1], not clipped."""
        return apply(self.network, self.params, z, method="decode")

    def to_latent(self, x: Images, rng: PRNGKeyArray | None = None) -> Float[Array, "b h2 w2 c"]:
        """Encode images to scaled latents: the posterior's mean, or with `rng` a sample."""
        return apply(self.network, self.params, x, rng, method="to_latent")

    def to_image(self, z: Latents) -> Float[Array, "b h w 3"]:
        """Decode scaled latents to images about [-1, 1], not clipped."""
        return apply(self.network, self.params, z, method="to_image")


class UNet:
    """The folder's UNet, which predicts the noise in scaled latents, or what the card says.

    Where the folder was read with its LoRA apart, it runs twice, and the strengths say how much either counts.
    """

    network: UNet2DConditionModel | TwoPasses

    def __init__(
        self, folder: ModelFolder, dtype: jnp.dtype, placement: NamedSharding, strengths: Strengths = TRAINED
    ) -> None:
        if folder.unet_config is None:
            raise ValueError("the model folder has no UNet")
        if folder.prompt_embedding is None:
            raise ValueError("the model folder has a UNet but no prompt_embedding.safetensors, which it needs to run")
        self.config = folder.unet_config
        self.network, params = UNet2DConditionModel(folder.unet_config, dtype=dtype), folder.unet
        if folder.unet_lora is not None:
            self.network = TwoPasses(self.network, strengths)
            params = {"weights": params, "lora": folder.unet_lora}
        self.params = _place(params, dtype, placement)
        self._prompt = folder.prompt_embedding[None]
        self._placement = placement

    def __call__(
        self, z: Latents, t: Int[Array | np.ndarray, " b"], text_embedding: Text | None = None
    ) -> Float[Array, "b h2 w2 c"]:
        """Predict the noise in `z` at time steps `t`; without a text embedding for the folder's own prompt."""
        return apply(self.network, self.params, z, t, self.text(text_embedding, len(z)))

    def text(self, embedding: Text | None, batch: int) -> Array:
        """`embedding`, or the folder's own prompt, for each of a batch."""
        text = self._prompt if embedding is None else embedding
        return jax.device_put(np.broadcast_to(text, (batch, *text.shape[1:])), self._placement)


@partial(jax.jit, static_argnames=("model", "method"))
def apply(model: nn.Module | TwoPasses, params: PyTree, *inputs: Array | None, method: str | None = None) -> Any:
    """Apply `model`; a program is compiled for each configuration and shape, whatever the parameters."""
    return model.apply({"params": params}, *inputs, method=method)


@partial(jax.jit, static_argnames=("vae",))
def encode(
    vae: AutoencoderKL, params: PyTree, x: Images, noise: Latents, norms: Norms
) -> tuple[Float[Array, "b h2 w2 c"], Statistics]:
    """Encode tiles to scaled latents, off the posterior's mean by `noise` times its deviation."""
    return with_norms(norms, partial(_encode, vae, params, x, noise))


@partial(jax.jit, static_argnames=("unet", "step"))
def restore(
    unet: UNet2DConditionModel | TwoPasses, step: OneStep, params: PyTree, z: Latents, text: Text, norms: Norms
) -> tuple[Float[Array, "b h2 w2 c"], Statistics]:
    """Restore the scaled latents of tiles in one step."""
    return with_norms(norms, partial(_restore, unet, step, params, z, text))


@partial(jax.jit, static_argnames=("vae",))
def decode(vae: AutoencoderKL, params: PyTree, z: Latents, norms: Norms) -> tuple[Float[Array, "b h w 3"], Statistics]:
    """Decode the scaled latents of tiles to images about [-1, 1], not clipped."""
    return with_norms(norms, partial(_decode, vae, params, z))


@partial(jax.jit, static_argnames=("networks", "step"))
def run_whole(
    networks: tuple[AutoencoderKL, UNet2DConditionModel | TwoPasses],
    step: OneStep,
    params: tuple[PyTree, PyTree],
    x: Images,
    noise: Latents,
    text: Text,
    norms: Norms,
) -> Float[Array, "b h w 3"]:
    """Encode, restore and decode a whole picture in one program."""
    (vae, unet), (vae_params, unet_params) = networks, params

    def call() -> Array:
        z = _encode(vae, vae_params, x, noise)
        return _decode(vae, vae_params, _restore(unet, step, unet_params, z, text))

    return with_norms(norms, call)[0]


def _encode(vae: AutoencoderKL, params: PyTree, x: Images, noise: Latents) -> Array:
    posterior = vae.apply({"params": params}, x, method="encode")
    return (posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise) * vae.config.scaling_factor


def _restore(unet: UNet2DConditionModel | TwoPasses, step: OneStep, params: PyTree, z: Latents, text: Text) -> Array:
    return restore_latent(jnp.asarray(z), lambda noisy, t: unet.apply({"params": params}, noisy, t, text), *step)


def _decode(vae: AutoencoderKL, params: PyTree, z: Latents) -> Array:
    return vae.apply({"params": params}, z, method="to_image")


def _place(params: PyTree, dtype: jnp.dtype, placement: NamedSharding) -> PyTree:
    return jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params), placement)
