"""Residual block and the two samplers, shared by the VAE and the UNet."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tvt_jax.models.convolution import NO_PADDING, SAME_3X3, Padding
from tvt_jax.models.layers import Conv, Dense, GroupNorm, nearest_resize

# The VAE's encoder pads below and to the right only, the UNet on all sides.
VAE_DOWNSAMPLE: Padding = ((0, 1), (0, 1))
UNET_DOWNSAMPLE: Padding = SAME_3X3


class ResnetBlock2D(nn.Module):
    """Norm, SiLU, convolution, twice, around a shortcut; the time embedding comes in between.

    Attributes:
        features: output channels.
        norm_num_groups: groups of both norms.
        epsilon: of both norms: 1e-6 in the VAE, 1e-5 in the UNet.
    """

    features: int
    norm_num_groups: int = 32
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], time_embedding: Float[Array, "b k"] | None = None
    ) -> Float[Array, "b h w d"]:
        """Add the two convolutions' result to `x`, projected by 1x1 if the channels differ."""
        y = GroupNorm(self.norm_num_groups, self.epsilon, self.dtype, name="norm1")(x)
        y = Conv(self.features, dtype=self.dtype, name="conv1")(jax.nn.silu(y))
        if time_embedding is not None:
            shift = Dense(self.features, dtype=self.dtype, name="time_emb_proj")(jax.nn.silu(time_embedding))
            y = y + shift[:, None, None]
        y = GroupNorm(self.norm_num_groups, self.epsilon, self.dtype, name="norm2")(y)
        y = Conv(self.features, dtype=self.dtype, name="conv2")(jax.nn.silu(y))
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, padding=NO_PADDING, dtype=self.dtype, name="conv_shortcut")(x)
        return x + y


class Downsample2D(nn.Module):
    """Halve height and width with a 3x3 convolution of stride 2.

    Attributes:
        padding: `VAE_DOWNSAMPLE` or `UNET_DOWNSAMPLE`.
    """

    padding: Padding
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """Odd sizes are rounded as torch rounds them for the same padding."""
        return Conv(x.shape[-1], stride=2, padding=self.padding, dtype=self.dtype, name="conv")(x)


class Upsample2D(nn.Module):
    """Enlarge by nearest neighbour, to twice the size or to a given one, then a 3x3 convolution."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], size: tuple[int, int] | None = None) -> Float[Array, "b h2 w2 c"]:
        """Enlarge to `size` (height, width), twice the own size when None."""
        double = (2 * x.shape[1], 2 * x.shape[2])
        size = size or double
        if size != double:
            x = nearest_resize(x, size)
        return Conv(x.shape[-1], doubled=size == double, dtype=self.dtype, name="conv")(x)
