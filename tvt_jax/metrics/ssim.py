"""Structural similarity, on luma and on RGB."""

import cv2
import numpy as np
from jaxtyping import Float

from tvt_jax.metrics.luma import Pixels, levels, round_luma, ycbcr_luma

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def _blur(x: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h2 w2"]:
    """Take the Gaussian-weighted mean wherever the window lies inside the image."""
    kernel = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_64F)
    inside = slice(_WINDOW // 2, -(_WINDOW // 2))
    return cv2.sepFilter2D(x, cv2.CV_64F, kernel, kernel)[inside, inside]


def ssim_y(image: Pixels, reference: Pixels) -> float:
    """Return the mean similarity, 0 to 1, of BT.601's rounded Y.

    As in pyiqa the contrast-structure term is clipped at 0, so anti-correlated patches count as unlike and no worse.
    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.

    Raises:
        ValueError: the images are smaller than 11x11 pixels.
    """
    _check_size(image)
    return _ssim(*(round_luma(ycbcr_luma(picture), picture) for picture in (image, reference)))


def ssim_rgb(image: Pixels, reference: Pixels) -> float:
    """Return the mean of the similarities of the three channels, otherwise as `ssim_y`: pyiqa's `ssimc`."""
    _check_size(image)
    x, y = levels(image), levels(reference)
    return float(np.mean([_ssim(x[..., channel], y[..., channel]) for channel in range(3)]))


def _check_size(image: Pixels) -> None:
    if min(image.shape[:2]) < _WINDOW:
        raise ValueError(f"SSIM needs images of at least 11x11 pixels, got {image.shape[1]}x{image.shape[0]}")


def _ssim(x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]) -> float:
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    structure = np.maximum((2 * covariance + _C2) / (variances + _C2), 0)
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return float(np.mean(luminance * structure))
