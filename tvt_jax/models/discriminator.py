"""PatchGAN discriminator (arXiv 1611.07004) as latent-diffusion's VAE training uses it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tvt_jax.models.convolution import SAME_3X3, convolve
from tvt_jax.models.layers import Conv

_INIT = nn.initializers.normal(0.02)


@dataclass(frozen=True, kw_only=True)
class PatchDiscriminatorConfig:
    """Shape of the discriminator.

    Attributes:
        features: channels of the first layer, doubled by each of the next, eightfold at most.
        layers: strided layers; 3 see 70x70 pixels.
    """

    features: int = 64
    layers: int = 3


class BatchNorm(nn.Module):
    """Batch normalisation by the statistics of the batch at hand; the discriminator never runs outside training."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Normalise each channel over the batch (of all devices) and the pixels."""
        scale = self.param("scale", lambda rng, shape: 1 + _INIT(rng, shape), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        x = x.astype(jnp.float32)
        mean = x.mean((0, 1, 2))
        variance = jnp.square(x - mean).mean((0, 1, 2))
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + bias


class PatchConv(nn.Module):
    """4x4 convolution padded by one pixel, without bias where a norm follows."""

    features: int
    stride: int
    use_bias: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Convolve."""
        if self.use_bias:
            return Conv(self.features, 4, self.stride, SAME_3X3, self.dtype, _INIT, name="conv")(x)
        kernel = self.param("kernel", _INIT, (4, 4, x.shape[-1], self.features))
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, SAME_3X3)


class PatchDiscriminator(nn.Module):
    """A score for each of the overlapping patches of an image: real ones large, reconstructed ones small.

    Attributes:
        config: its shape.
        dtype: dtype of the convolutions.
    """

    config: PatchDiscriminatorConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 1"]:
        """Score images in [-1, 1]."""
        layers, width = self.config.layers, self.config.features
        x = PatchConv(width, 2, True, self.dtype, name="conv_0")(x)
        for i in range(1, layers + 1):
            features = width * min(2**i, 8)
            x = jax.nn.leaky_relu(x, 0.2)
            x = PatchConv(features, 2 if i < layers else 1, False, self.dtype, name=f"conv_{i}")(x)
            x = BatchNorm(name=f"norm_{i}")(x)
        x = jax.nn.leaky_relu(x, 0.2)
        return PatchConv(1, 1, True, self.dtype, name=f"conv_{layers + 1}")(x).astype(jnp.float32)
