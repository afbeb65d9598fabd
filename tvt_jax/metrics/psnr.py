"""Peak signal-to-noise ratio on luma."""

import numpy as np
from jaxtyping import UInt8

from tvt_jax.metrics.luma import ycbcr_luma


def psnr_y(image: UInt8[np.ndarray, "h w 3"], reference: UInt8[np.ndarray, "h w 3"]) -> float:
    """Return the ratio in dB of 255 to the error of BT.601's unrounded Y; 128.1 for equal images, as in pyiqa."""
    error = np.mean((ycbcr_luma(image) - ycbcr_luma(reference)) ** 2)
    return float(10 * np.log10(255**2 / (error + 1e-8)))
