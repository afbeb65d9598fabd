"""The two grey values that published image metrics are computed on."""

import numpy as np
from jaxtyping import Float, UInt8

_YCBCR = np.array([65.481, 128.553, 24.966])
_YIQ = np.array([0.299, 0.587, 0.114])


def ycbcr_luma(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Return BT.601's Y with head room, unrounded float64 in [16, 235], as MATLAB's rgb2ycbcr."""
    return image @ _YCBCR / 255 + 16


def yiq_luma(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
    """Return the Y of YIQ, unrounded float64 in [0, 255], as MATLAB's rgb2gray."""
    return image @ _YIQ
