"""Decoded tiles become the result: cut out, given the input's colours back, rounded."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt

from tvt_jax.colour import ColorFix, match, statistics_of, wavelet
from tvt_jax.inference.restoration import Decoded
from tvt_jax.inference.tiling import Grid, relative
from tvt_jax.inference.windows import Source
from tvt_jax.pixels import from_integers, to_integers

# What five dilated blurs see on each side.
WAVELET_REACH = 1 + 2 + 4 + 8 + 16

Part = tuple[slice, slice]


def paint(
    decoded: Iterable[Decoded], grid: Grid, source: Source, fix: ColorFix, dtype: np.dtype
) -> UInt[np.ndarray, "h w 3"]:
    """Put tiles together, with the source's colours by `fix`, as uint8 or uint16 [h w 3].

    Nothing of the whole is held in float32.
    """
    if fix == "adain":
        return _paint_adain(decoded, grid, source, dtype)
    result = np.empty((*source.size, 3), dtype)
    margin = WAVELET_REACH if fix == "wavelet" else 0
    for part, near, pixels in _cut_out(decoded, grid, source.size, margin):
        fixed: Any = wavelet(pixels, _window(source, near)) if fix == "wavelet" else pixels
        result[part] = to_integers(fixed[_within(part, near)], dtype)
    return result


def join(decoded: Iterable[Decoded], grid: Grid, size: tuple[int, int]) -> Float[np.ndarray, "h w 3"]:
    """Put tiles together as they are, clipped to [-1, 1]."""
    result = np.empty((*size, 3), np.float32)
    for part, _, pixels in _cut_out(decoded, grid, size, 0):
        result[part] = pixels
    return result


def _paint_adain(decoded: Iterable[Decoded], grid: Grid, source: Source, dtype: np.dtype) -> UInt[np.ndarray, "h w 3"]:
    """In two passes: 16 bits keep the pixels until all statistics are known."""
    held = np.empty((*source.size, 3), np.uint16)
    sums = np.zeros((2, 2, 3))
    for part, _, pixels in _cut_out(decoded, grid, source.size, 0):
        held[part] = to_integers(pixels, held.dtype)
        sums += [_sums(pixels), _sums(_window(source, part))]
    count = source.size[0] * source.size[1]
    own, wanted = (statistics_of(total, of_squares, count) for total, of_squares in sums)
    result = held if dtype == held.dtype else np.empty(held.shape, dtype)
    for part in map(grid.pixel_part, grid.tiles):
        fixed: Any = match(from_integers(held[part]), own, wanted)
        result[part] = to_integers(fixed, dtype)
    return result


def _cut_out(
    decoded: Iterable[Decoded], grid: Grid, size: tuple[int, int], margin: int
) -> Iterator[tuple[Part, Part, Float[np.ndarray, "h w 3"]]]:
    """Each tile's part of the picture, that part with a margin, and the pixels of this, clipped to [-1, 1]."""
    for tile, image in decoded:
        part = grid.pixel_part(tile)
        near = tuple(
            slice(max(side.start - margin, 0), min(side.stop + margin, length))
            for side, length in zip(part, size, strict=True)
        )
        place = tuple(relative(*pair) for pair in zip(near, grid.first_pixel(tile), strict=True))
        yield part, (near[0], near[1]), image[place].clip(-1, 1)


def _within(part: Part, near: Part) -> Part:
    rows, columns = (relative(inner, outer.start) for inner, outer in zip(part, near, strict=True))
    return rows, columns


def _window(source: Source, part: Part) -> Float[np.ndarray, "h w 3"]:
    rows, columns = part
    return source.window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)


def _sums(pixels: Float[np.ndarray, "h w 3"]) -> Any:
    precise = pixels.astype(np.float64)
    return precise.sum((0, 1)), np.square(precise).sum((0, 1))
