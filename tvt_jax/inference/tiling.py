"""Where tiles lie on a padded picture, what of each counts, and how neighbours are blended; in latent pixels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Tile(NamedTuple):
    """A tile's place in the grid."""

    row: int
    column: int


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Tiles along one direction of a picture that is padded on both sides.

    Attributes:
        pixels: length of the picture.
        factor: pixels of a latent one.
        tile: length of a tile, a multiple of `unit`.
        overlap: of neighbours at least, in latent pixels; even, and a multiple of `unit`.
        padding: before the picture, and at least behind it; a multiple of `unit`.
        unit: tiles begin at its multiples, where the network's coarser grids have a pixel's border too.
    """

    pixels: int
    factor: int
    tile: int
    overlap: int
    padding: int
    unit: int

    @cached_property
    def starts(self) -> list[int]:
        """Where tiles begin on the padded picture, evenly spread; what the last one sees beyond is padding too."""
        needed = math.ceil(self.pixels / self.factor) + 2 * self.padding
        beyond = max(0, math.ceil((needed - self.tile) / self.unit))
        count = math.ceil(beyond * self.unit / (self.tile - self.overlap))
        return [0, *(self.unit * (i * beyond // count) for i in range(1, count + 1))]

    @cached_property
    def cuts(self) -> list[int | float]:
        """Where one tile's part ends and the next one's begins: in the middle of what they share."""
        return [
            -math.inf,
            *(self.unit * ((a + b + self.tile) // (2 * self.unit)) for a, b in pairwise(self.starts)),
            math.inf,
        ]

    @property
    def extent(self) -> int:
        """Length of the padded picture."""
        return self.starts[-1] + self.tile

    def part(self, index: int) -> tuple[int, int]:
        """Begin and end of tile `index`'s part of the padded picture."""
        return max(0, int(max(self.cuts[index], 0))), int(min(self.cuts[index + 1], self.extent))

    def pixel_part(self, index: int) -> tuple[int, int]:
        """Begin and end of its part of the picture, in pixels."""
        begin, end = ((edge - self.padding) * self.factor for edge in self.part(index))
        return max(begin, 0), min(end, self.pixels)

    def first_pixel(self, index: int) -> int:
        """Give the picture's pixel at which the tile begins; negative within the padding."""
        return (self.starts[index] - self.padding) * self.factor

    def span(self, index: int) -> tuple[float, float]:
        """Begin and end of its part of the picture, as shares of the tile."""
        begin, end = ((edge - self.first_pixel(index)) / (self.tile * self.factor) for edge in self.pixel_part(index))
        return begin, end

    def weights(self, index: int) -> Float[np.ndarray, " n"]:
        """Weights that rise and fall about both cuts, half as wide as the overlap. Those of all tiles sum to 1."""
        centers = self.starts[index] + np.arange(self.tile) + 0.5
        rise, fall = (self._step(centers, cut) for cut in (self.cuts[index], self.cuts[index + 1]))
        return (rise - fall).astype(np.float32)

    def _step(self, centers: np.ndarray, cut: int | float) -> np.ndarray:
        share = np.clip((centers - cut) / (self.overlap / 2) + 0.5, 0, 1)
        return share * share * (3 - 2 * share)


@dataclass(frozen=True)
class Grid:
    """Tiles over both directions of a picture."""

    rows: Axis
    columns: Axis

    @cached_property
    def tiles(self) -> list[Tile]:
        """All tiles, row by row."""
        return [Tile(i, j) for i in range(len(self.rows.starts)) for j in range(len(self.columns.starts))]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the padded picture in latent pixels."""
        return self.rows.extent, self.columns.extent

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of a tile in latent pixels."""
        return self.rows.tile, self.columns.tile

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """Give the tile on the padded picture."""
        top, left = self.rows.starts[tile.row], self.columns.starts[tile.column]
        return slice(top, top + self.rows.tile), slice(left, left + self.columns.tile)

    def part(self, tile: Tile) -> tuple[slice, slice]:
        """Its own part of the padded picture; the parts of all tiles are the whole."""
        return slice(*self.rows.part(tile.row)), slice(*self.columns.part(tile.column))

    def pixel_part(self, tile: Tile) -> tuple[slice, slice]:
        """Its own part of the picture, in pixels."""
        return slice(*self.rows.pixel_part(tile.row)), slice(*self.columns.pixel_part(tile.column))

    def first_pixel(self, tile: Tile) -> tuple[int, int]:
        """Give the picture's pixel at which the tile begins."""
        return self.rows.first_pixel(tile.row), self.columns.first_pixel(tile.column)

    def box(self, tile: Tile) -> tuple[float, float, float, float]:
        """Its own part of the picture, as shares of the tile: top, bottom, left, right."""
        return *self.rows.span(tile.row), *self.columns.span(tile.column)

    def weights(self, tile: Tile) -> Float[np.ndarray, "h w 1"]:
        """Give the tile's weights in a blend."""
        return np.outer(self.rows.weights(tile.row), self.columns.weights(tile.column))[..., None]

    def batches(self, size: int, count: int | None = None) -> Iterator[list[Tile]]:
        """All tiles, or about `count` of them evenly spread, in batches of `size`."""
        tiles = self.tiles if count is None else spread(self.tiles, count)
        return (tiles[i : i + size] for i in range(0, len(tiles), size))


def spread(tiles: list[Tile], count: int) -> list[Tile]:
    """`count` of `tiles`, evenly spread; all if there are no more."""
    if len(tiles) <= count:
        return tiles
    return [tiles[(2 * i + 1) * len(tiles) // (2 * count)] for i in range(count)]


def relative(part: slice, start: int) -> slice:
    """`part` counted from `start`."""
    return slice(part.start - start, part.stop - start)
