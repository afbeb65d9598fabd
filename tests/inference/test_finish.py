import numpy as np
import pytest

from tvt_jax.colour import COLOR_FIXES
from tvt_jax.inference.finish import join, paint
from tvt_jax.inference.tiling import Axis, Grid
from tvt_jax.inference.windows import Given
from tvt_jax.pixels import to_integers

SIZE = (300, 411)


@pytest.fixture
def grid():
    shared = {"factor": 4, "tile": 96, "overlap": 48, "padding": 16, "unit": 8}
    return Grid(*(Axis(pixels=pixels, **shared) for pixels in SIZE))


def decoded(grid, image):
    """Tiles that agree with `image` where there is a picture."""
    for tile in grid.tiles:
        yield tile, Given(image).window(*grid.first_pixel(tile), 4 * 96, 4 * 96)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("fix", COLOR_FIXES)
def test_tiles_are_fixed_as_the_whole(grid, fix, dtype):
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(SIZE[0])[:, None, None] / 40) * np.cos(np.arange(SIZE[1])[:, None] / 60)
    image, reference = ((waves * scale + rng.normal(0, 0.2, (*SIZE, 3))).astype(np.float32) for scale in (0.9, 0.5))
    painted = paint(decoded(grid, image), grid, Given(reference), fix, np.dtype(dtype))
    assert painted.dtype == dtype
    expected = to_integers(COLOR_FIXES[fix](image.clip(-1, 1), reference), np.dtype(dtype))
    # adain keeps 16 bits between its passes, which may round the other way; and of 16 bits, float32's sums do too.
    different = np.abs(painted.astype(int) - expected)
    assert different.max() <= (1 if fix == "adain" or dtype == np.uint16 else 0)
    assert (different > 0).mean() < (0.01 if dtype == np.uint8 else 0.5)


def test_tiles_are_joined_and_clipped(grid):
    image = np.random.default_rng(0).normal(0, 1, (*SIZE, 3)).astype(np.float32)
    np.testing.assert_array_equal(join(decoded(grid, image), grid, SIZE), image.clip(-1, 1))
