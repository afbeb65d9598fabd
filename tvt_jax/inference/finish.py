"""Decoded tiles become the result: cut out, given the input's colours back, rounded."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tvt_jax.colour import ColorFix, match, statistics_of, wavelet
from tvt_jax.inference.restoration import Decoded
from tvt_jax.inference.tiling import Grid, relative
from tvt_jax.inference.windows import Source
from tvt_jax.pixels import to_uint8

# What five dilated blurs see on each side.
WAVELET_REACH = 1 + 2 + 4 + 8 + 16

Part = tuple[slice, slice]


def paint(decoded: Iterable[Decoded], grid: Grid, source: Source, fix: ColorFix) -> UInt8[np.ndarray, "h w 3"]:
    """Put tiles together, with the source's colours by `fix`; nothing of the whole is held in float32."""
    if fix == "adain":
        return _paint_adain(decoded, grid, source)
    result = np.empty((*source.size, 3), np.uint8)
    margin = WAVELET_REACH if fix == "wavelet" else 0
    for part, near, pixels in _cut_out(decoded, grid, source.size, margin):
        fixed: Any = wavelet(pixels, _window(source, near)) if fix == "wavelet" else pixels
        result[part] = to_uint8(fixed[_within(part, near)])
    return result


def join(decoded: Iterable[Decoded], grid: Grid, size: tuple[int, int]) -> Float[np.ndarray, "h w 3"]:
    """Put tiles together as they are, clipped to [-1, 1]."""
    result = np.empty((*size, 3), np.float32)
    for part, _, pixels in _cut_out(decoded, grid, size, 0):
        result[part] = pixels
    return result


def _paint_adain(decoded: Iterable[Decoded], grid: Grid, source: Source) -> UInt8[np.ndarray, "h w 3"]:
    """In two passes: half precision keeps pixels to a sixteenth of a level until all statistics are known."""
    half = np.empty((*source.size, 3), np.float16)
    sums = np.zeros((2, 2, 3))
    for part, _, pixels in _cut_out(decoded, grid, source.size, 0):
        half[part] = pixels
        sums += [_sums(pixels), _sums(_window(source, part))]
    count = source.size[0] * source.size[1]
    own, wanted = (statistics_of(total, of_squares, count) for total, of_squares in sums)
    result = np.empty(half.shape, np.uint8)
    for part in map(grid.pixel_part, grid.tiles):
        fixed: Any = match(half[part].astype(np.float32), own, wanted)
        result[part] = to_uint8(fixed)
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
