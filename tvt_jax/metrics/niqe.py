"""NIQE: how far an image's local statistics lie from those of pristine photos, without a reference."""

from functools import lru_cache
from math import lgamma
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file

from tvt_jax.metrics.luma import Pixels, round_luma, yiq_luma

_BLOCK = 96
# Of 25 RealSR truths of 25 blocks, parts of 2 blocks come out 3.9 higher, of 4 2.8, of 9 1.2, and of 16 0.3.
FEW_BLOCKS = 16
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))

_log_gamma = np.vectorize(lgamma, otypes=[np.float64])
_SHAPES = np.arange(0.2, 10.0005, 0.001)
_SHAPE_RATIOS = np.exp(2 * _log_gamma(2 / _SHAPES) - _log_gamma(1 / _SHAPES) - _log_gamma(3 / _SHAPES))


@lru_cache
def _pristine() -> tuple[Float[np.ndarray, " 36"], Float[np.ndarray, "36 36"]]:
    model = load_file(Path(__file__).with_name("niqe.safetensors"))
    return model["mean"], model["covariance"]


def _normalise(luma: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Subtract the local mean and divide by the local deviation plus 1 (equation 1)."""
    profile = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(profile, profile)
    # pyiqa keeps the window in float32, whose sum differs from 1: on flat areas that decides the sign of the result.
    window = (window / window.sum()).astype(np.float32).astype(np.float64)
    mean = cv2.filter2D(luma, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)
    square = cv2.filter2D(luma**2, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)
    return (luma - mean) / (np.sqrt(np.abs(square - mean**2) + np.finfo(np.float64).eps) + 1)


def _halve(luma: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h2 w2"]:
    """Halve as MATLAB's imresize(luma, 0.5): antialiased bicubic, borders mirrored; in float32 as in pyiqa."""
    taps = np.array([-0.01171875, -0.03515625, 0.11328125, 0.43359375])
    taps = np.concatenate([taps, taps[::-1]]).astype(np.float32)
    scaled = (luma / 255).astype(np.float32)
    small = cv2.sepFilter2D(scaled, cv2.CV_32F, taps, taps, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)[::2, ::2]
    return small.astype(np.float64) * 255


def _fit(values: Float[np.ndarray, "n k"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit an asymmetric generalised Gaussian to each row: shape, left and right scale (equations 4 to 7)."""
    negative, positive = values < 0, values > 0
    left = np.sqrt(np.sum(values**2 * negative, axis=1) / negative.sum(axis=1))
    right = np.sqrt(np.sum(values**2 * positive, axis=1) / positive.sum(axis=1))
    ratio = left / right
    moments = np.mean(np.abs(values), axis=1) ** 2 / np.mean(values**2, axis=1)
    target = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = _SHAPES[np.argmin(np.abs(_SHAPE_RATIOS - target[:, None]), axis=1)]
    scale = np.exp((_log_gamma(1 / shape) - _log_gamma(3 / shape)) / 2)
    return shape, left * scale, right * scale


def _features(normalised: Float[np.ndarray, "h w"], side: int) -> Float[np.ndarray, "blocks 18"]:
    rows, columns = (length // side for length in normalised.shape)
    blocks = normalised.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
    shape, left, right = _fit(blocks.reshape(len(blocks), -1))
    features = [shape, (left + right) / 2]
    for shift in _NEIGHBOURS:
        products = blocks * np.roll(blocks, shift, axis=(1, 2))
        shape, left, right = _fit(products.reshape(len(blocks), -1))
        mean = (right - left) * np.exp(_log_gamma(2 / shape) - _log_gamma(1 / shape))
        features += [shape, mean, left, right]
    return np.stack(features, axis=1)


def blocks(image: Pixels) -> int:
    """Count the whole blocks of 96x96 pixels; below `FEW_BLOCKS` NIQE comes out too high."""
    return (image.shape[0] // _BLOCK) * (image.shape[1] // _BLOCK)


def niqe(image: Pixels) -> float:
    """Return the distance to pristine photos, about 3 to 10, smaller is more natural.

    Only whole blocks of 96x96 pixels count, and at least two of them must have texture. Source: Mittal et al.,
    "Making a completely blind image quality analyzer", 2013; the details are pyiqa's.

    Raises:
        ValueError: the image is too small or too flat.
    """
    height, width = (length // _BLOCK * _BLOCK for length in image.shape[:2])
    if height * width < 2 * _BLOCK**2:
        raise ValueError(f"NIQE needs at least 96x192 pixels, got {image.shape[1]}x{image.shape[0]}")
    luma = round_luma(yiq_luma(image), image)[:height, :width]
    with np.errstate(invalid="ignore", divide="ignore"):
        fine, coarse = _features(_normalise(luma), _BLOCK), _features(_normalise(_halve(luma)), _BLOCK // 2)
    features = np.concatenate([fine, coarse], axis=1)
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        raise ValueError("NIQE needs at least two blocks of 96x96 pixels with texture: this image is flat")
    mean, covariance = _pristine()
    own_covariance = np.cov(complete, rowvar=False)
    difference = mean - np.nanmean(features, axis=0)
    return float(np.sqrt(difference @ np.linalg.pinv((covariance + own_covariance) / 2) @ difference))
