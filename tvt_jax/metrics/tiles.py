"""Large pictures in tiles whose features are those of the whole picture: each tile sees as far as its features do."""

from collections.abc import Iterator
from typing import NamedTuple

from jax import Array

LARGEST = 2**21  # pixels that are worked on at once: VGG16 then takes some 4 GB
_TILE = 1024
# A feature of VGG16's last level sees 105 pixels to either side, one of AlexNet's 93; 16 is the coarsest stride.
_HALO, _STRIDE = 128, 16


class Tile(NamedTuple):
    """A part of one axis.

    Attributes:
        outer: first and last pixel, exclusive, of what the networks see.
        inner: first and last pixel, exclusive, of what counts, seen from the first of `outer`; None up to the border.
    """

    outer: slice
    inner: tuple[int, int | None]


def split(height: int, width: int) -> Iterator[tuple[Tile, Tile]]:
    """Give tiles, rows and columns, whose inner parts are the whole picture once."""
    for rows in _split(height):
        for columns in _split(width):
            yield rows, columns


def _split(length: int) -> list[Tile]:
    count = -(-length // _TILE)
    edges = [round(length * i / count / _STRIDE) * _STRIDE for i in range(count)]
    tiles = []
    for start, stop in zip(edges, [*edges[1:], None], strict=True):
        first, last = max(0, start - _HALO), length if stop is None else min(length, stop + _HALO)
        tiles.append(Tile(slice(first, last), (start - first, None if stop is None else stop - first)))
    return tiles


def inner(features: Array, rows: tuple[int, int | None], columns: tuple[int, int | None], stride: int) -> Array:
    """Cut out the features (b h w c) of a tile's inner part, at a level of that stride."""
    parts = [slice(start // stride, None if stop is None else stop // stride) for start, stop in (rows, columns)]
    return features[:, parts[0], parts[1]]
