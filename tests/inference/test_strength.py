import numpy as np
import pytest
from PIL import Image

from tvt_jax.inference.strength import blend

RNG = np.random.default_rng(0)


def photo(height, width, channels=3, dtype=np.uint8):
    return RNG.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype)


def test_none_of_it_is_pillow_s_bicubic(upscaler):
    image = photo(10, 7)
    expected = np.asarray(Image.fromarray(image).resize((18, 25), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(upscaler.upscale(image, 2.5, strength=0), expected)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_blend_lies_that_far_between_the_two(strength, channels, dtype):
    restored, image = photo(300, 12, channels, dtype), photo(75, 3, channels, dtype)
    below, result = blend(restored, image, 0), blend(restored, image, strength)
    assert result.dtype == dtype and result.shape == restored.shape
    exact = below + strength * (restored.astype(float) - below)
    # Half a level for rounding; float32 has 24 bits for the 16.
    assert np.abs(result - exact).max() <= 0.51


def test_all_kinds_of_pictures_keep_their_channels(upscaler):
    full = upscaler.upscale(photo(6, 8, 4), 2)
    assert full.shape == (12, 16, 4)
    grey = photo(6, 8, 1)[..., 0]
    half, whole, none = (upscaler.upscale(grey, strength=strength).astype(int) for strength in (0.5, 1, 0))
    assert half.shape == (24, 32)
    assert np.abs(2 * half - whole - none).max() <= 1


def test_colours_can_be_chosen_picture_by_picture(upscaler, folder):
    image = photo(8, 8)
    for fix in ("adain", "wavelet", "none"):
        expected = type(upscaler)(folder, color_fix=fix).upscale(image)
        np.testing.assert_array_equal(upscaler.upscale(image, color_fix=fix), expected)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_what_is_out_of_range_is_refused(upscaler, strength):
    with pytest.raises(ValueError, match=f"strength={strength:g} is out of range, use 0"):
        upscaler.upscale(photo(4, 4), strength=strength)
