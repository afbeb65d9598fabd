"""Images in [-1, 1] made larger, smaller, and compared."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def enlarge(image: Float[Array, "b h w 3"], factor: int) -> Float[Array, "b h2 w2 3"]:
    """Enlarge by bicubic interpolation (a = -0.5, as Pillow's), and clip to [-1, 1]."""
    batch, height, width, channels = image.shape
    shape = (batch, height * factor, width * factor, channels)
    return jnp.clip(jax.image.resize(image, shape, "bicubic"), -1.0, 1.0)


def shrink(image: Float[Array, "b h w 3"], factor: int) -> Float[Array, "b h2 w2 3"]:
    """Average over squares of `factor` pixels."""
    batch, height, width, channels = image.shape
    return image.reshape(batch, height // factor, factor, width // factor, factor, channels).mean((2, 4))


def psnr(image: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
    """Return the RGB peak signal-to-noise ratio of images in [-1, 1], in dB."""
    error = jnp.square(jnp.clip(image, -1.0, 1.0) - target).mean((1, 2, 3))
    return 10 * jnp.log10(4.0 / jnp.maximum(error, 1e-10))
