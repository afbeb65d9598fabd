"""Refusing, in one sentence, what an upscaler can't work on."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt
from PIL import Image

from tvt_jax.inference.images import pixels_of

Scale = float | int

LARGEST_SCALE = 8
# Enlarging may overshoot [-1, 1] at edges, by no more than this.
OVERSHOOT = 0.5


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raise ValueError if an option's value isn't among those known."""
    if value not in known:
        raise ValueError(f"{name}={value!r} isn't known, use one of {', '.join(known)}")


def check_scale(scale: Scale) -> Scale:
    """`scale`, or ValueError if it is out of range."""
    if not 1 <= scale <= LARGEST_SCALE:
        raise ValueError(f"scale={scale} is out of range, use 1 to {LARGEST_SCALE} (fractions too)")
    return scale


def to_pixels(image: np.ndarray | Image.Image) -> UInt[np.ndarray, "h w *c"]:
    """Give the pixels of a picture, or ValueError if it is none."""
    if isinstance(image, Image.Image):
        return pixels_of(image)
    array = isinstance(image, np.ndarray)
    known = array and image.dtype in (np.uint8, np.uint16)
    if not known or image.ndim not in (2, 3) or not image.size or image.shape[2:] > (4,):
        what = f"{image.dtype} {list(image.shape)}" if array else type(image).__name__
        raise ValueError(
            f"upscale takes a PIL image, or uint8 or uint16 [h w] or [h w c] with 1 to 4 channels, not {what}"
        )
    return image


def check_floats(x: np.ndarray) -> Float[np.ndarray, "b h w 3"]:
    """`x`, or ValueError if it isn't images in [-1, 1]."""
    if not np.issubdtype(x.dtype, np.floating) or x.ndim != 4 or x.shape[-1] != 3 or not x.size:
        raise ValueError(f"restore takes floats [b h w 3] in [-1, 1], not {x.dtype} {list(x.shape)}")
    low, high = x.min(), x.max()
    if not -1 - OVERSHOOT <= low <= high <= 1 + OVERSHOOT:
        raise ValueError(f"restore takes floats in [-1, 1], and these go from {low:g} to {high:g}")
    return x
