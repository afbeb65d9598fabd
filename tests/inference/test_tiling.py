from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from tvt_jax.inference.tiling import blend_tiles, gaussian_weights, starts


def latent(height, width):
    return np.random.default_rng(0).normal(size=(2, height, width, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("length", "tile", "overlap"), [(128, 96, 32), (96, 96, 32), (97, 96, 32), (300, 96, 32), (50, 96, 32)]
)
def test_tiles_cover_the_whole_and_end_flush(length, tile, overlap):
    begins = starts(length, tile, overlap)
    assert begins[0] == 0
    assert begins[-1] + tile == max(length, tile)
    assert all(b - a <= tile - overlap for a, b in pairwise(begins))
    assert len(set(begins)) == len(begins)


def test_weights_are_the_release_s_gaussian():
    weights = gaussian_weights(96, 96)[:, 0, 0]
    # The release's formula along one side, without its constant factor.
    x = np.arange(96)
    expected = np.exp(-((x - 47.5) ** 2) / 96**2 / (2 * 0.01))
    np.testing.assert_allclose(weights / weights.max(), expected / expected.max(), rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 40), (16, 61), (9, 50), (33, 34)])
def test_a_pointwise_function_is_the_same_tiled(height, width):
    z = latent(height, width)
    tiled = blend_tiles(lambda part: np.tanh(part) * 2 + part, z, tile=16, overlap=5)
    # 1e-6: a weighted mean of equal numbers, in float32.
    np.testing.assert_allclose(tiled, np.tanh(z) * 2 + z, atol=1e-6)


@pytest.mark.parametrize("factor", [Fraction(1, 4), 4])
def test_a_function_that_changes_the_size(factor):
    z = latent(48, 80)

    def resample(part):
        return part.repeat(4, 1).repeat(4, 2) if factor == 4 else part[:, ::4, ::4]

    tiled = blend_tiles(resample, z, tile=32, overlap=8, factor=factor)
    np.testing.assert_allclose(tiled, resample(z), atol=1e-6)


def test_tiles_that_disagree_leave_no_seam():
    offsets = iter(range(100))
    z = np.zeros((1, 8, 500, 4), np.float32)
    blended = blend_tiles(lambda part: part + np.float32(next(offsets)), z, tile=96, overlap=32)[0, 0, :, 0]
    # Neighbouring tiles differ by 1. The ratio of their weights is exp(2 * 64 * x / (96^2 * 2 * 0.01)), so the
    # mean goes over from one to the other as a sigmoid whose steepest slope is 0.69 / 4 a pixel, and no more than that.
    assert np.diff(blended).max() < 0.18
    assert np.diff(blended).min() > -1e-5


def test_every_tile_has_one_shape():
    shapes = set()
    blend_tiles(lambda part: shapes.add(part.shape) or part, latent(45, 70), tile=16, overlap=5)
    assert shapes == {(2, 16, 16, 4)}


def test_progress_sees_every_tile():
    seen = []
    blend_tiles(lambda part: part, latent(16, 38), 16, 5, progress=lambda tiles: seen.extend(tiles) or tiles)
    assert seen == [(0, 0), (0, 11), (0, 22)]


def test_an_overlap_as_large_as_the_tile_is_an_error():
    with pytest.raises(ValueError, match="smaller than the tile"):
        blend_tiles(lambda part: part, latent(8, 8), tile=4, overlap=4)
