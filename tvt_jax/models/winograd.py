"""3x3 convolutions with fewer products, for a CPU: Winograd's F(2x2, 3x3), and what is left of it after doubling."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Fewer channels take longer this way than by the compiler's own convolution.
_CHANNELS = 128
# Tiles that are worked on at a time: what they become stays in a cache.
_TILES = 1024


class Transforms(NamedTuple):
    """Along one direction, how two results come from a product for each of a few combinations of pixels.

    Attributes:
        kernel: combines the three taps of a kernel.
        pixels: combines the pixels that two results see.
        seen: how many these are.
        stride: pixels from one pair of results to the next.
        results: combines the products to two results.
        pixels_from: fewer pixels of an image take longer this way.
    """

    kernel: Callable[..., tuple[Array, ...]]
    pixels: Callable[..., tuple[Array, ...]]
    seen: int
    stride: int
    results: Callable[..., tuple[Array, Array]]
    pixels_from: int


# Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv 1509.09308, section 4.1.
PLAIN = Transforms(
    kernel=lambda a, b, c: (a, (a + b + c) / 2, (a - b + c) / 2, c),
    pixels=lambda a, b, c, d: (a - c, b + c, c - b, b - d),
    seen=4,
    stride=2,
    results=lambda a, b, c, d: (a + b + c, b - c - d),
    pixels_from=32 * 32,
)
# The same where the two pixels in the middle are one, doubled: their difference needs no product.
DOUBLED = Transforms(
    kernel=lambda a, b, c: (a, a + b + c, c),
    pixels=lambda a, b, c: (a - b, b, b - c),
    seen=3,
    stride=1,
    results=lambda a, b, c: (a + b, b - c),
    pixels_from=1,
)


def pays(x: Array, kernel: Array, transforms: Transforms) -> bool:
    """Whether a CPU is faster this way, and the sides of `x` allow it."""
    rows, columns = x.shape[1:3]
    return (
        kernel.shape[:2] == (3, 3)
        and min(kernel.shape[2:]) >= _CHANNELS
        and x.dtype == kernel.dtype == jnp.float32
        and rows % transforms.stride == columns % transforms.stride == 0
        and rows * columns >= transforms.pixels_from
    )


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"], transforms: Transforms
) -> Float[Array, "b h2 w2 d"]:
    """Cross-correlate with a 3x3 `kernel`, the border padded with zeros; `DOUBLED` first enlarges by nearest neighbour.

    Sides are multiples of the transforms' stride. A result takes 4 products a channel, doubled 2.25, in place of 9.
    """
    batch, rows, columns, channels = x.shape
    high, wide = rows // transforms.stride, columns // transforms.stride
    strips = -(-high * wide // _TILES)
    high = -(-high // strips)  # of a strip, in tiles
    strips = -(-rows // (transforms.stride * high))
    below = strips * high * transforms.stride - rows
    padded = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), (1, 1 + below), (1, 1), (0, 0))))
    seen = (1, (high - 1) * transforms.stride + transforms.seen, columns + 2, channels)
    # Nothing may hang on weights alone: a compiler makes it at the start, for all layers, and holds it.
    none = padded[0, 1, 1, 0] < -jnp.inf
    kernel_rows = [jax.lax.dynamic_index_in_dim(kernel, i + jnp.int32(none), keepdims=False) for i in range(3)]
    kernels = [transforms.kernel(*row) for row in transforms.kernel(*kernel_rows)]

    def add_strip(index: Array, result: Array) -> Array:
        top = index % strips * high * transforms.stride
        part = jax.lax.dynamic_slice(padded, (index // strips, top, 0, 0), seen)[0]
        return result.at[index].set(_strip(part, kernels, high, wide, transforms))

    start = jnp.full((batch * strips, 2 * high, 2 * wide, kernel.shape[-1]), none, x.dtype)
    result = jax.lax.fori_loop(0, batch * strips, add_strip, start)
    return result.reshape(batch, -1, *result.shape[2:])[:, : 2 * rows // transforms.stride]


def _strip(x: Array, kernels: list[tuple[Array, ...]], high: int, wide: int, transforms: Transforms) -> Array:
    """Convolve what `high` x `wide` tiles see to their 2x2 results each."""
    every = partial(_every, stride=transforms.stride)
    products = []
    for row, row_kernels in zip(transforms.pixels(*every(x, 0, high, transforms.seen)), kernels, strict=True):
        tiles = transforms.pixels(*every(row, 1, wide, transforms.seen))
        products.append([_product(tile, kernel) for tile, kernel in zip(tiles, row_kernels, strict=True)])
    by_column = [transforms.results(*column) for column in zip(*products, strict=True)]
    rows = [jnp.stack(transforms.results(*row), axis=2) for row in zip(*by_column, strict=True)]
    return jnp.stack(rows, axis=1).reshape(2 * high, 2 * wide, -1)


def _every(x: Array, axis: int, count: int, seen: int, stride: int) -> list[Array]:
    """Give the first, second, ... of what each of `count` tiles sees along an axis."""
    last = (count - 1) * stride + 1
    return [jax.lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(seen)]


def _product(tile: Array, kernel: Array) -> Array:
    return (tile.reshape(-1, tile.shape[-1]) @ kernel).reshape(*tile.shape[:2], -1)
