"""Peak signal-to-noise ratio, on luma and on RGB."""

import numpy as np

from tvt_jax.metrics.luma import Pixels, levels, ycbcr_luma


def psnr_y(image: Pixels, reference: Pixels) -> float:
    """Return the ratio in dB of 255 to the error of BT.601's unrounded Y; 80 for equal images, as in pyiqa."""
    return _psnr(ycbcr_luma(image) - ycbcr_luma(reference))


def psnr_rgb(image: Pixels, reference: Pixels) -> float:
    """Return the ratio in dB of 255 to the error of all three channels; 80 for equal images, as in pyiqa."""
    return _psnr(levels(image) - levels(reference))


def _psnr(difference: np.ndarray) -> float:
    # pyiqa's guard against a division by 0, on values in [0, 1]: it bounds the ratio by 80 dB.
    return float(-10 * np.log10(np.mean((difference / 255) ** 2) + 1e-8))
