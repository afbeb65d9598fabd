"""The one way from the integers of a picture to the floats of the networks, and back."""

from typing import Any, TypeVar

import jax
import numpy as np

# Of numpy for files and finished pictures, of jax within a program; any shape.
Pixels = TypeVar("Pixels", np.ndarray, jax.Array)


def from_integers(image: Pixels) -> Pixels:
    """Give uint8 or uint16, in their whole range, as float32 in [-1, 1]."""
    numpy: Any = image.__array_namespace__()
    return image.astype(numpy.float32) / (np.iinfo(image.dtype).max / 2) - 1


def to_integers(image: Pixels, dtype: np.dtype) -> Pixels:
    """Clip float32 to [-1, 1], and round to `dtype`, uint8 or uint16, in its whole range."""
    numpy: Any = image.__array_namespace__()
    return numpy.rint((image.clip(-1, 1) + 1) * (np.iinfo(dtype).max / 2)).astype(dtype)


def from_uint8(image: Pixels) -> Pixels:
    """Give uint8 in [0, 255] as float32 in [-1, 1]."""
    return from_integers(image)


def to_uint8(image: Pixels) -> Pixels:
    """Clip float32 to [-1, 1], and round to uint8 in [0, 255]."""
    return to_integers(image, np.dtype(np.uint8))
