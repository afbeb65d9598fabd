"""Swin transformer (arXiv 2103.14030): the tagger's image encoder, with the original's parameter names."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from tvt_jax.models.attention import LayerNorm, join_windows, split_windows
from tvt_jax.models.convolution import NO_PADDING
from tvt_jax.models.layers import Conv, Dense

# Added to the scores of tokens that only the roll has made neighbours.
_FAR = -100.0


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """Shape of a Swin transformer, by transformers' names; the defaults are Swin-L's for 384 pixels.

    Attributes:
        image_size: side of the square images, in pixels.
        patch_size: side of a patch, in pixels: a token of the first stage.
        embed_dim: channels of the first stage; every further stage has twice as many, on half the grid.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        window_size: side of the windows that attention is kept within, in tokens.
    """

    image_size: int = 384
    patch_size: int = 4
    embed_dim: int = 192
    depths: tuple[int, ...] = (2, 2, 18, 2)
    num_heads: tuple[int, ...] = (6, 12, 24, 48)
    window_size: int = 12

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.num_heads):
            raise ValueError(f"depths {self.depths} and num_heads {self.num_heads} must be of as many stages")
        if self.image_size % (self.patch_size << len(self.depths) - 1):
            raise ValueError(
                f"image_size {self.image_size} cannot be halved to {len(self.depths)} grids of "
                f"{self.patch_size}-pixel patches"
            )
        for stage, heads in enumerate(self.num_heads):
            if self.grid(stage) % self.window(stage):
                raise ValueError(
                    f"window_size {self.window_size} does not divide the grid of {self.grid(stage)} tokens"
                )
            if (self.embed_dim << stage) % heads:
                raise ValueError(f"{self.embed_dim << stage} channels cannot be split into num_heads={heads}")

    @property
    def width(self) -> int:
        """Channels of the last stage."""
        return self.embed_dim << len(self.depths) - 1

    def grid(self, stage: int) -> int:
        """Tokens a side in a stage."""
        return self.image_size // self.patch_size >> stage

    def window(self, stage: int) -> int:
        """Tokens a side of a window in a stage: the whole grid, where that is no larger."""
        return min(self.window_size, self.grid(stage))


def relative_positions(window: int) -> Int[np.ndarray, "m m"]:
    """Give for each query and key of a window, in rows, the row of the bias table that their distance has."""
    rows, columns = np.divmod(np.arange(window**2), window)
    down, right = (axis[:, None] - axis + window - 1 for axis in (rows, columns))
    return down * (2 * window - 1) + right


def neighbour_mask(grid: int, window: int, shift: int) -> Float[Array, "n 1 m m"]:
    """Give what is added to the scores in each window of a grid that was rolled by `shift`."""
    # Along an axis: what was not rolled around, the last window's own part, and what came from the other end.
    part = np.searchsorted([grid - window, grid - shift], np.arange(grid), side="right").astype(np.float32)
    region = split_windows(jnp.asarray(3 * part[:, None] + part)[None, :, :, None], window)[..., 0]
    return jnp.where(region[:, None, :, None] == region[:, None, None, :], 0.0, _FAR)


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows, with a learned bias for each distance of two tokens.

    Attributes:
        heads: number of heads.
        window: side of a window.
    """

    heads: int
    window: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n m c"], mask: Float[Array, "n 1 m m"] | None) -> Float[Array, "b n m c"]:
        """Attend within each of `n` windows, `mask` added to the scores."""
        table = self.param(
            "relative_position_bias_table",
            nn.initializers.truncated_normal(0.02),
            ((2 * self.window - 1) ** 2, self.heads),
        )
        bias = jnp.moveaxis(table[relative_positions(self.window)], -1, 0)[None]
        if mask is not None:
            bias = bias + mask
        split = (part.reshape(*x.shape[:3], self.heads, -1) for part in Dense(3 * x.shape[-1], name="qkv").parts(x, 3))
        attend: Callable[..., Array] = jax.vmap(jax.nn.dot_product_attention, (0, 0, 0, None))
        return Dense(x.shape[-1], name="proj")(attend(*split, bias).reshape(x.shape))


class MLP(nn.Module):
    """The block's feed-forward, four times as wide within."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Widen, exact GELU, narrow."""
        hidden = jax.nn.gelu(Dense(4 * x.shape[-1], name="fc1")(x), approximate=False)
        return Dense(x.shape[-1], name="fc2")(hidden)


class Block(nn.Module):
    """Attention in windows, then feed-forward, each a residual branch behind a layer norm.

    Attributes:
        heads: number of heads.
        window: side of a window.
        shift: tokens by which the windows are moved down and right.
    """

    heads: int
    window: int
    shift: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Add both branches."""
        x = x + self._attention(LayerNorm(name="norm1")(x))
        return x + MLP(name="mlp")(LayerNorm(name="norm2")(x))

    def _attention(self, x: Array) -> Array:
        attention = WindowAttention(self.heads, self.window, name="attn")
        mask = neighbour_mask(x.shape[1], self.window, self.shift) if self.shift else None
        rolled = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
        windows = split_windows(rolled, self.window).reshape(len(x), -1, self.window**2, x.shape[-1])
        attended = attention(windows, mask).reshape(-1, self.window**2, x.shape[-1])
        return jnp.roll(join_windows(attended, self.window, x.shape), (self.shift, self.shift), (1, 2))


class PatchMerging(nn.Module):
    """Four neighbours become one token of twice the channels."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 2*c"]:
        """Put them together down the column first, norm, project."""
        four = jnp.concatenate([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], axis=-1)
        return Dense(2 * x.shape[-1], use_bias=False, name="reduction")(LayerNorm(name="norm")(four))


class Stage(nn.Module):
    """Blocks on one grid, every other one with moved windows, and before all but the last stage's end a merging.

    Attributes:
        config: of the whole transformer.
        index: which stage this is.
    """

    config: SwinConfig
    index: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Run the blocks."""
        window, heads = self.config.window(self.index), self.config.num_heads[self.index]
        moved = window // 2 if window < self.config.grid(self.index) else 0
        for i in range(self.config.depths[self.index]):
            x = Block(heads, window, moved if i % 2 else 0, name=f"blocks_{i}")(x)
        last = self.index == len(self.config.depths) - 1
        return x if last else PatchMerging(name="downsample")(x)


class PatchEmbed(nn.Module):
    """Patches of the image become tokens."""

    config: SwinConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 c"]:
        """Project, norm."""
        side = self.config.patch_size
        return LayerNorm(name="norm")(Conv(self.config.embed_dim, side, side, NO_PADDING, name="proj")(x))


class SwinTransformer(nn.Module):
    """Swin transformer without a head, in float32.

    Attributes:
        config: its shape.
    """

    config: SwinConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b n c"]:
        """Give the tokens of the last stage, normed, their mean before them.

        Args:
            x: images of `config.image_size` pixels a side, normalised as in training.

        Raises:
            ValueError: they are of another size.
        """
        if x.shape[1:3] != (self.config.image_size,) * 2:
            raise ValueError(f"images of {x.shape[1]}x{x.shape[2]} pixels, not {self.config.image_size} a side")
        x = PatchEmbed(self.config, name="patch_embed")(x)
        for i in range(len(self.config.depths)):
            x = Stage(self.config, i, name=f"layers_{i}")(x)
        tokens = LayerNorm(name="norm")(x).reshape(len(x), -1, self.config.width)
        return jnp.concatenate([tokens.mean(1, keepdims=True), tokens], axis=1)
