import numpy as np
import pytest
from scipy.ndimage import correlate1d

from tvt_jax.metrics.ssim import ssim_rgb, ssim_y


def test_equals_published(published_pair):
    image, truth, expected = published_pair
    assert ssim_y(image, truth) == pytest.approx(expected["SSIM"], abs=1e-5)


def test_equals_the_formula(pair):
    x, y = (np.round(image @ [65.481, 128.553, 24.966] / 255 + 16) for image in pair)
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))

    def mean(values):
        for axis in (0, 1):
            values = correlate1d(values, weights / weights.sum(), axis=axis)
        return values[5:-5, 5:-5]

    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x**2) - mean(x) ** 2 + mean(y**2) - mean(y) ** 2
    structure = (2 * covariance + 7.65**2) / (variances + 7.65**2)
    luminance = (2 * mean(x) * mean(y) + 2.55**2) / (mean(x) ** 2 + mean(y) ** 2 + 2.55**2)
    # The same sums in float64, in another order.
    assert ssim_y(*pair) == pytest.approx(np.mean(luminance * structure.clip(0)), abs=1e-12)


def test_of_rgb_is_the_mean_over_the_channels(pair):
    image, truth = pair
    greys = [[np.repeat(picture[..., i : i + 1], 3, axis=-1) for picture in pair] for i in range(3)]
    # A grey picture has three equal channels.
    assert ssim_rgb(image, truth) == pytest.approx(np.mean([ssim_rgb(*grey) for grey in greys]), abs=1e-12)
    assert ssim_rgb(image, image) == 1 > ssim_rgb(image, truth)


def test_16_bits_that_8_would_make_equal_differ(pair):
    deep = pair[0].astype(np.uint16) * 257
    noise = np.random.default_rng(0).integers(0, 120, deep.shape, np.uint16)
    assert ssim_y(deep, deep) == 1 > ssim_y(deep, deep + noise)


def test_anticorrelated_is_not_worse_than_unlike():
    board = np.repeat((np.indices((24, 24)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=-1)
    assert ssim_y(board, board) == 1
    assert ssim_y(board, 255 - board) == 0


def test_size_limit():
    with pytest.raises(ValueError, match="at least 11x11 pixels, got 30x10"):
        ssim_y(*np.zeros((2, 10, 30, 3), np.uint8))
