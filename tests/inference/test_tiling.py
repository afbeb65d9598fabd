import math
from itertools import pairwise

import numpy as np
import pytest

from tvt_jax.inference.tiling import Axis, Grid, spread

LENGTHS = [1, 3, 100, 255, 256, 257, 300, 641, 1000, 3001]


def axis(pixels, tile=96):
    return Axis(pixels=pixels, factor=4, tile=tile, overlap=48, padding=16, unit=8)


@pytest.mark.parametrize("tile", [96, 160, 288])
@pytest.mark.parametrize("pixels", LENGTHS)
def test_tiles_cover_the_padded_picture_and_overlap(pixels, tile):
    tiles = axis(pixels, tile)
    assert tiles.starts[0] == 0
    assert tiles.extent >= math.ceil(pixels / 4) + 2 * 16
    assert all(start % 8 == 0 for start in tiles.starts)
    assert all(tile - (b - a) >= 48 for a, b in pairwise(tiles.starts))


@pytest.mark.parametrize("pixels", LENGTHS)
def test_parts_are_the_picture_and_each_has_some_of_it(pixels):
    tiles = axis(pixels)
    indices = range(len(tiles.starts))
    pieces = [tiles.pixel_part(i) for i in indices]
    assert pieces[0][0] == 0
    assert pieces[-1][1] == pixels
    assert all(a[1] == b[0] for a, b in pairwise(pieces))
    assert all(begin < end for begin, end in pieces)
    parts = [tiles.part(i) for i in indices]
    assert (parts[0][0], parts[-1][1]) == (0, tiles.extent)
    assert all(a[1] == b[0] for a, b in pairwise(parts))


@pytest.mark.parametrize("pixels", LENGTHS)
def test_parts_lie_within_tiles_far_from_their_borders(pixels):
    tiles = axis(pixels)
    for i, start in enumerate(tiles.starts):
        begin, end = tiles.part(i)
        assert begin == 0 or begin - start >= 24
        assert end == tiles.extent or start + 96 - end >= 24


@pytest.mark.parametrize("pixels", LENGTHS)
def test_weights_sum_to_one_and_vanish_at_borders_within_the_picture(pixels):
    tiles = axis(pixels)
    total = np.zeros(tiles.extent)
    for i, start in enumerate(tiles.starts):
        weights = tiles.weights(i)
        total[start : start + 96] += weights
        assert i == 0 or not weights[:12].any()
        assert i == len(tiles.starts) - 1 or not weights[-12:].any()
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_box_is_the_part_in_shares_of_the_tile():
    tiles = axis(300)  # 75 latent pixels between 16 and 91: one tile of 96 would not hold 107
    assert tiles.starts == [0, 16]
    assert tiles.cuts[1] == 56
    assert tiles.span(0) == (16 / 96, 56 / 96)
    assert tiles.span(1) == (40 / 96, (91 - 16) / 96)


def test_a_grid_s_tiles_fill_the_plane():
    grid = Grid(axis(500), axis(700))
    plane = np.zeros(grid.shape)
    for tile in grid.tiles:
        plane[grid.part(tile)] += 1
    assert (plane == 1).all()
    picture = np.zeros((500, 700))
    for tile in grid.tiles:
        picture[grid.pixel_part(tile)] += 1
    assert (picture == 1).all()


def test_some_tiles_are_spread_evenly():
    tiles = Grid(axis(2000), axis(3000)).tiles
    chosen = spread(tiles, 8)
    places = [tiles.index(tile) for tile in chosen]
    assert len(set(places)) == 8
    steps = np.diff(places)
    assert steps.max() - steps.min() <= 1
    assert spread(tiles[:3], 8) == tiles[:3]
