"""The grey values that published image metrics are computed on."""

import numpy as np
from jaxtyping import Float, UInt8, UInt16

Pixels = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]

_YCBCR = np.array([65.481, 128.553, 24.966])
_YIQ = np.array([0.299, 0.587, 0.114])


def levels(image: Pixels) -> Float[np.ndarray, "h w 3"]:
    """Return the values as float64 in [0, 255]: 16 bits a channel keep their steps of 1/257."""
    return image.astype(np.float64) / _steps(image)


def to_unit(image: Pixels) -> Float[np.ndarray, "h w 3"]:
    """Return the values as float32 in [-1, 1], as the networks take them."""
    return (levels(image) / 127.5 - 1).astype(np.float32)


def ycbcr_luma(image: Pixels) -> Float[np.ndarray, "h w"]:
    """Return BT.601's Y with head room, unrounded float64 in [16, 235], as MATLAB's rgb2ycbcr."""
    return levels(image) @ _YCBCR / 255 + 16


def yiq_luma(image: Pixels) -> Float[np.ndarray, "h w"]:
    """Return the Y of YIQ, unrounded float64 in [0, 255], as MATLAB's rgb2gray."""
    return levels(image) @ _YIQ


def round_luma(luma: Float[np.ndarray, "h w"], image: Pixels) -> Float[np.ndarray, "h w"]:
    """Round to the steps that the picture has: whole levels with 8 bits, 1/257 of one with 16."""
    return np.round(luma * _steps(image)) / _steps(image)


def _steps(image: Pixels) -> int:
    return np.iinfo(image.dtype).max // 255
