"""The transformer blocks of the UNet, and the attention in the VAE's middle."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tvt_jax.models.attend import attend
from tvt_jax.models.layers import Dense, GroupNorm
from tvt_jax.models.remat import product


class Attention(nn.Module):
    """Multi-head attention of diffusers: self-attention, or cross-attention when a context is given.

    Attributes:
        heads: number of heads.
        use_bias: bias on query, key and value (the VAE has it, the UNet has not); the output always has one.
    """

    heads: int
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], context: Float[Array, "b m k"] | None = None) -> Float[Array, "b n c"]:
        """Attend from `x` to `context`, or to itself."""
        context = x if context is None else context
        channels = x.shape[-1]
        query = Dense(channels, self.use_bias, self.dtype, name="to_q")(x)
        key = Dense(channels, self.use_bias, self.dtype, name="to_k")(context)
        value = Dense(channels, self.use_bias, self.dtype, name="to_v")(context)
        split = (part.reshape(*part.shape[:2], self.heads, -1) for part in (query, key, value))
        return Dense(channels, dtype=self.dtype, name="to_out_0")(product(attend(*split)).reshape(x.shape))


class GEGLU(nn.Module):
    """A layer that widens eightfold, and gates one half by the exact GELU of the other."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n 4*c"]:
        """Project and gate."""
        hidden, gate = Dense(8 * x.shape[-1], dtype=self.dtype, name="proj").parts(x, 2)
        return hidden * jax.nn.gelu(gate, approximate=False)


class FeedForward(nn.Module):
    """The transformer's gated feed-forward."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Widen, gate, narrow."""
        return Dense(x.shape[-1], dtype=self.dtype, name="net_2")(GEGLU(self.dtype, name="net_0")(x))


# As torch's: the variance is taken about the mean.
LayerNorm = partial(nn.LayerNorm, epsilon=1e-5, use_fast_variance=False)


class BasicTransformerBlock(nn.Module):
    """Self-attention over the image or its windows, cross-attention to the text, feed-forward.

    Attributes:
        heads: number of heads.
        window: side of the square windows that self-attention is kept within; None is the whole image.
    """

    heads: int
    window: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], text_embedding: Float[Array, "b m k"]) -> Float[Array, "b h w c"]:
        """Add three residual branches, each behind a layer norm."""
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height * width, channels)
        normed = LayerNorm(dtype=self.dtype, name="norm1")(x)
        x = x + self._self_attention(normed, height, width)
        normed = LayerNorm(dtype=self.dtype, name="norm2")(x)
        x = x + Attention(self.heads, dtype=self.dtype, name="attn2")(normed, text_embedding)
        normed = LayerNorm(dtype=self.dtype, name="norm3")(x)
        x = x + FeedForward(self.dtype, name="ff")(normed)
        return x.reshape(batch, height, width, channels)

    def _self_attention(self, tokens: Array, height: int, width: int) -> Array:
        attention = Attention(self.heads, dtype=self.dtype, name="attn1")
        if self.window is None or (height <= self.window and width <= self.window):
            return attention(tokens)
        image = tokens.reshape(tokens.shape[0], height, width, -1)
        windows = split_windows(image, self.window)
        return join_windows(attention(windows), self.window, image.shape).reshape(tokens.shape)


def split_windows(x: Float[Array, "b h w c"], window: int) -> Float[Array, "bn m c"]:
    """Cut an image into square windows, each a batch entry; the border is mirrored up to a whole window."""
    batch, height, width, channels = x.shape
    pad_h, pad_w = -height % window, -width % window
    x = jnp.pad(x, ((0, 0), (0, pad_h), (0, pad_w), (0, 0)), mode="symmetric")
    x = x.reshape(batch, (height + pad_h) // window, window, (width + pad_w) // window, window, channels)
    return x.swapaxes(2, 3).reshape(-1, window * window, channels)


def join_windows(x: Float[Array, "bn m c"], window: int, shape: tuple[int, ...]) -> Float[Array, "b h w c"]:
    """Undo `split_windows` for an image of `shape`."""
    batch, height, width, channels = shape
    rows, columns = -(-height // window), -(-width // window)
    x = x.reshape(batch, rows, columns, window, window, channels).swapaxes(2, 3)
    return x.reshape(batch, rows * window, columns * window, channels)[:, :height, :width]


class Transformer2DModel(nn.Module):
    """Spatial transformer with linear projections, as in SD 2.1.

    Attributes:
        heads: number of heads.
        window: see `BasicTransformerBlock`.
        norm_num_groups: groups of the norm before the projection.
    """

    heads: int
    window: int | None = None
    norm_num_groups: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], text_embedding: Float[Array, "b m k"]) -> Float[Array, "b h w c"]:
        """Norm, project, transform, project back, add."""
        channels = x.shape[-1]
        y = GroupNorm(self.norm_num_groups, 1e-6, self.dtype, name="norm")(x)
        y = Dense(channels, dtype=self.dtype, name="proj_in")(y)
        y = BasicTransformerBlock(self.heads, self.window, self.dtype, name="transformer_blocks_0")(y, text_embedding)
        return x + Dense(channels, dtype=self.dtype, name="proj_out")(y)


class SpatialAttention(nn.Module):
    """One-head self-attention over all pixels, in the middle of the 8x VAE.

    Attributes:
        norm_num_groups: groups of the norm before it.
    """

    norm_num_groups: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Norm, attend, add."""
        batch, height, width, channels = x.shape
        tokens = GroupNorm(self.norm_num_groups, 1e-6, self.dtype, name="group_norm")(x)
        tokens = tokens.reshape(batch, height * width, channels)
        # The parameters sit beside group_norm in diffusers, hence no submodule of its own.
        query, key, value = (Dense(channels, dtype=self.dtype, name=f"to_{n}")(tokens)[:, :, None] for n in "qkv")
        attended = product(attend(query, key, value))
        result = Dense(channels, dtype=self.dtype, name="to_out_0")(attended[:, :, 0])
        return x + result.reshape(x.shape)
