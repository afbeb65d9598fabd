import numpy as np
import pytest

from tvt_jax.metrics.psnr import psnr_y


def test_equals_published(published_pair):
    image, truth, expected = published_pair
    # pyiqa works in float32.
    assert psnr_y(image, truth) == pytest.approx(expected["PSNR"], abs=1e-4)


def test_by_hand():
    black, grey = np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 51, np.uint8)
    # Y rises by 219/255 of the grey value: 43.8.
    assert psnr_y(grey, black) == pytest.approx(20 * np.log10(255 / 43.8), abs=1e-9)
    assert psnr_y(grey, grey) == pytest.approx(128.13, abs=0.01)
