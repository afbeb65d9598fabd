import numpy as np
import pytest

from tvt_jax.metrics.psnr import psnr_rgb, psnr_y


def test_equals_published(published_pair):
    image, truth, expected = published_pair
    # pyiqa works in float32.
    assert psnr_y(image, truth) == pytest.approx(expected["PSNR"], abs=1e-4)


def test_by_hand():
    black, grey = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 51, np.uint8)
    # Y rises by 219/255 of the grey value: 43.8. pyiqa's 1e-8 beside a squared error of .01 or more is 4e-6 dB at most.
    assert psnr_y(grey, black) == pytest.approx(20 * np.log10(255 / 43.8), abs=2e-6)
    red = grey * np.uint8([1, 0, 0])
    assert psnr_rgb(red, black) == pytest.approx(10 * np.log10(3 * 25), abs=5e-6)


@pytest.mark.parametrize("metric", [psnr_y, psnr_rgb])
def test_equal_images_have_the_80_of_pyiqa(metric):
    grey = np.full((4, 5, 3), 51, np.uint8)
    assert metric(grey, grey) == pytest.approx(80, abs=1e-9)


@pytest.mark.parametrize("metric", [psnr_y, psnr_rgb])
def test_16_bits_are_not_rounded(metric):
    dark, light = np.full((4, 5, 3), 1000, np.uint16), np.full((4, 5, 3), 1010, np.uint16)
    # 10 of 65535 steps, less pyiqa's 1e-8 beside an error of 2e-8.
    error = (10 / 65535 * (219 / 255 if metric is psnr_y else 1)) ** 2
    assert metric(dark, light) == pytest.approx(-10 * np.log10(error + 1e-8), abs=1e-9)
    # An 8-bit picture is compared with one of 16 bits on the same scale: 255 is 65535.
    assert metric(np.full((4, 5, 3), 4, np.uint8), np.full((4, 5, 3), 4 * 257, np.uint16)) == pytest.approx(
        80, abs=1e-9
    )
