import numpy as np
import pytest
from PIL import Image

from tvt_jax.inference.windows import Enlarged, Given
from tvt_jax.pixels import from_uint8


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("window", [(-64, -64, 67, 70), (-5, -3, 30, 8), (0, 1, 4, 3), (2, -64, 60, 128)])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 5), (40, 33)])
def test_windows_are_those_of_the_whole_reflected(size, window):
    image, (top, left, height, width) = picture(*size), window
    enlarged = Image.fromarray(image).resize((4 * size[1], 4 * size[0]), Image.Resampling.BICUBIC)
    whole = from_uint8(np.asarray(enlarged))
    padded = np.pad(whole, [(64, 64), (64, 64), (0, 0)], mode="reflect")
    expected = padded[top + 64 : top + 64 + height, left + 64 : left + 64 + width]
    for source in (Enlarged(image, 4), Given(whole)):
        assert source.size == whole.shape[:2]
        np.testing.assert_array_equal(source.window(*window), expected)
