"""The operators that a degradation is made of: blur, resize, noise and JPEG, on float32 RGB images in [0, 1]."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy import special

from tvt_jax.data.kernels import Kernel, kernel_taps

Interpolation = Literal["area", "bilinear", "bicubic"]
INTERPOLATIONS: dict[Interpolation, int] = {
    "area": cv2.INTER_AREA,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
}
GREY_WEIGHTS = np.array([0.2989, 0.587, 0.114], np.float32)


def _places(count: int) -> Float[np.ndarray, "n"]:
    """Give equally likely places of a distribution: its value at one of them is a draw, but many times as fast."""
    return (np.arange(count) + 0.5) / count


# White noise of standard deviation 1, up to 4.3 of it.
NORMAL = special.ndtri(_places(2**16)).astype(np.float32)
SHOT_PLACES = 2**12


@dataclass(frozen=True, kw_only=True)
class Noise:
    """One noise, in plain numbers.

    Attributes:
        kind: Gaussian (of one strength everywhere) or Poisson (growing with the brightness).
        strength: standard deviation in levels of 255 (Gaussian), or a multiplier of the shot noise (Poisson).
        grey: whether all channels get the same noise.
    """

    kind: Literal["gaussian", "poisson"]
    strength: float
    grey: bool


def blur(x: Float[np.ndarray, "h w 3"], kernel: Kernel | None) -> Float[np.ndarray, "h w 3"]:
    """Filter with a kernel, borders mirrored without repeating the edge; None does nothing."""
    if kernel is None:
        return x
    taps = kernel_taps(kernel)
    if kernel.kind == "iso":
        row = taps.sum(axis=0)
        return cv2.sepFilter2D(x, -1, row, row, borderType=cv2.BORDER_REFLECT_101)
    return cv2.filter2D(x, -1, taps, borderType=cv2.BORDER_REFLECT_101)


def resize(
    x: Float[np.ndarray, "h w 3"], size: tuple[int, int], interpolation: Interpolation
) -> Float[np.ndarray, "h2 w2 3"]:
    """Resize to (height, width), aligned by pixel areas.

    Area is the mean over the footprint of an output pixel; bilinear and bicubic (a = -0.75) do not antialias, which
    is how they alias in published degradations too. Bicubic may leave [0, 1].
    """
    if x.shape[:2] == size:
        return x
    return cv2.resize(x, size[::-1], interpolation=INTERPOLATIONS[interpolation])


def add_noise(
    x: Float[np.ndarray, "h w 3"], noise: Noise, generator: np.random.Generator
) -> Float[np.ndarray, "h w 3"]:
    """Add noise and clip to [0, 1]."""
    make = _gaussian_noise if noise.kind == "gaussian" else _poisson_noise
    noisy = x + np.float32(noise.strength) * make(x, noise.grey, generator)
    return np.clip(noisy, 0, 1, out=noisy)


def jpeg(x: Float[np.ndarray, "h w 3"], quality: int) -> Float[np.ndarray, "h w 3"]:
    """Encode as JPEG (4:2:0, quality 1 to 100) and decode again."""
    bgr = cv2.cvtColor(to_levels(x), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # for the type checker: it was encoded a line above
    return from_levels(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def from_levels(x: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Turn levels of 255 into float32 in [0, 1]."""
    return x.astype(np.float32) / np.float32(255)


def to_levels(x: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Clip to [0, 1] and round to levels of 255."""
    levels = np.clip(x, 0, 1) * np.float32(255)
    return np.rint(levels, out=levels).astype(np.uint8)


def _gaussian_noise(
    x: Float[np.ndarray, "h w 3"], grey: bool, generator: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    place = generator.integers(len(NORMAL), size=(*x.shape[:2], 1 if grey else 3), dtype=np.uint16)
    return NORMAL[place] / np.float32(255)


def _poisson_noise(
    x: Float[np.ndarray, "h w 3"], grey: bool, generator: np.random.Generator
) -> Float[np.ndarray, "h w c"]:
    """Draw shot noise; white is as many counts as the image has distinct levels, up to the next power of two."""
    levels = to_levels((x @ GREY_WEIGHTS)[..., None] if grey else x)
    histogram = cv2.calcHist([levels.reshape(len(levels), -1)], [0], None, [256], [0, 256])
    noise = _shot_noise(2 ** int(np.ceil(np.log2(np.count_nonzero(histogram)))))
    place = generator.integers(SHOT_PLACES, size=levels.shape, dtype=np.uint16)
    return noise.take(levels * np.intp(SHOT_PLACES) + place)


@cache
def _shot_noise(counts: int) -> Float[np.ndarray, "256 places"]:
    """Compute what Poisson's distribution adds to each level when white is so many counts, at its places."""
    mean = np.arange(256) / 255 * counts
    highest = 2 * counts + 16  # beyond the last place of any of them
    cumulative = special.pdtr(np.arange(highest), mean[:, None])
    drawn = np.stack([np.searchsorted(row, _places(SHOT_PLACES)) for row in cumulative])
    return ((drawn - mean[:, None]) / counts).astype(np.float32)
