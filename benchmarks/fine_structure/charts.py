"""Charts that are known in closed form, an edge and line pairs, and what is measured on pictures of them."""

import numpy as np
from jaxtyping import Float, UInt8
from scipy.special import ndtr

Picture = UInt8[np.ndarray, "h w 3"]
ANGLE = np.radians(5)  # off the pixels' rows, so that every place between two pixels is seen
DARK, LIGHT = 64, 192
PERIODS = (6, 8, 10, 12, 16, 24)  # pixels of the result; the input can hold those of 8 and more
_STEP = 0.25  # pixels, between the points of an edge's profile
_REACH = 16  # pixels on either side of the edge that are looked at
_RIM = 16  # pixels at the border that are left out


def _across(side: int) -> Float[np.ndarray, "side side"]:
    """Return each pixel's distance in pixels from a nearly upright line through the middle, negative on the left."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return x * np.cos(ANGLE) + y * np.sin(ANGLE)


def _picture(values: Float[np.ndarray, "h w"]) -> Picture:
    """Turn values in [0, 1] into grey, dark to light."""
    grey = np.rint(DARK + (LIGHT - DARK) * values).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def edge(side: int, sigma: float = 0.4) -> Picture:
    """Draw a slanted edge, dark on the left, blurred by a Gaussian of deviation `sigma` in pixels."""
    return _picture(ndtr(_across(side) / sigma))


def line_pairs(side: int, period: float) -> Picture:
    """Draw slanted lines, dark and light by turns, of sinusoidal profile: sharper ones would hold other periods too."""
    return _picture(0.5 + 0.5 * np.sin(2 * np.pi * _across(side) / period))


def quarter(picture: Picture) -> Picture:
    """Shrink to a quarter of the size, each pixel the mean of 4x4: what an ideal camera of fewer pixels sees."""
    height, width, channels = picture.shape
    means = picture.reshape(height // 4, 4, width // 4, 4, channels).mean((1, 3))
    return np.rint(means).astype(np.uint8)


def rise(picture: Picture) -> float:
    """Count the pixels that a picture of `edge` takes from 10 to 90 % of its own contrast; 2.563 sigma for a Gaussian.

    The count goes outwards from the middle of the rise, so that overshoot and ripples make no difference.
    """
    places = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    profile = _profile(picture.mean(axis=-1), places)
    dark, light = np.median(profile[: len(places) // 4]), np.median(profile[-len(places) // 4 :])
    profile = (profile - dark) / (light - dark)
    middle = int(np.flatnonzero(profile >= 0.5)[0])
    low = int(np.flatnonzero(profile[:middle] <= 0.1)[-1])
    high = middle + int(np.flatnonzero(profile[middle:] >= 0.9)[0])
    return float(_crossing(places, profile, high - 1, 0.9) - _crossing(places, profile, low, 0.1))


def _profile(grey: Float[np.ndarray, "h w"], places: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Average the pixels around each distance from the edge."""
    inside = slice(_RIM, -_RIM)
    distance = _across(len(grey))[inside, inside].ravel()
    index = np.rint((distance - places[0]) / _STEP).astype(int)
    kept = (index >= 0) & (index < len(places))
    sums = np.bincount(index[kept], grey[inside, inside].ravel()[kept], len(places))
    return sums / np.bincount(index[kept], minlength=len(places))


def _crossing(places: Float[np.ndarray, " n"], profile: Float[np.ndarray, " n"], index: int, level: float) -> float:
    """Find where the profile passes a level between the point `index` and the next."""
    part = (level - profile[index]) / (profile[index + 1] - profile[index])
    return float(places[index] + part * _STEP)


def modulation(picture: Picture, period: float) -> float:
    """Measure how much of the contrast of `line_pairs` a picture of them has, 1 for all; other periods do not count."""
    wave = np.exp(2j * np.pi * _across(len(picture)) / period)
    window = np.outer(np.hanning(len(picture)), np.hanning(len(picture)))
    values = (picture.mean(axis=-1) - (DARK + LIGHT) / 2) / (LIGHT - DARK)
    # The projection on a sine of amplitude 1/2 is 1/4.
    return float(4 * np.abs(np.sum(values * wave * window)) / np.sum(window))
