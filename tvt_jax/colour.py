"""Giving a restored picture the colours of its input back: a one-step diffusion model drifts in hue and brightness."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

ColorFix = Literal["adain", "wavelet", "none"]
# Of numpy for finished pictures, of jax where the fix is part of the training.
Pixels = Float[np.ndarray | jax.Array, "h w c"]
Statistic = Float[np.ndarray | jax.Array, " c"]
Statistics = tuple[Statistic, Statistic]


def adain(result: Pixels, reference: Pixels) -> Pixels:
    """Make the mean and standard deviation of each channel of `result` those of `reference` (both in [-1, 1]).

    Adaptive instance normalisation as in StableSR and TVT: sample variance plus 1e-5, for pixels in [0, 1].
    """
    return match(result, _statistics(result), _statistics(reference))


def match(image: Pixels, own: Statistics, wanted: Statistics) -> Pixels:
    """`image`, whose mean and deviation are `own`, with those `wanted`."""
    return (image - own[0]) * (wanted[1] / own[1]) + wanted[0]


def statistics_of(total: np.ndarray, total_of_squares: np.ndarray, count: int) -> Statistics:
    """Mean and deviation of each channel, as `adain` takes them, from sums over `count` pixels."""
    mean = total / count
    variance = (total_of_squares - count * mean**2).clip(0) / max(count - 1, 1)
    return mean.astype(np.float32), np.sqrt(variance + 4e-5).astype(np.float32)


def wavelet(result: Pixels, reference: Pixels) -> Pixels:
    """Put the low frequencies of `reference` in place of those of `result`: five levels of a dilated 3x3 blur.

    StableSR's wavelet fix, which is result - low(result) + low(reference); low is linear, so it is applied once.
    """
    return result + low_frequencies(reference - result, levels=5)


def low_frequencies(image: Pixels, levels: int) -> Pixels:
    """Blur an image `levels` times by [1 2 1] x [1 2 1] / 16, dilated by 1, 2, 4 ..., borders replicated."""
    for level in range(levels):
        for axis in (0, 1):
            image = _blur(image, 2**level, axis)
    return image


def _blur(image: Pixels, dilation: int, axis: int) -> Pixels:
    padding = [(dilation, dilation) if i == axis else (0, 0) for i in range(image.ndim)]
    numpy = _numpy_of(image)
    padded = numpy.moveaxis(numpy.pad(image, padding, mode="edge"), axis, 0)
    length = image.shape[axis]
    blurred = 0.25 * (padded[:length] + padded[2 * dilation :]) + 0.5 * padded[dilation : dilation + length]
    return numpy.moveaxis(blurred, 0, axis)


def _statistics(image: Pixels) -> Statistics:
    numpy = _numpy_of(image)
    precise = numpy.result_type(float)
    flat = image.reshape(-1, image.shape[-1])
    variance = flat.var(axis=0, ddof=min(1, len(flat) - 1), dtype=precise)
    # 1e-5 on a [0, 1] scale is 4e-5 on [-1, 1]
    return flat.mean(axis=0, dtype=precise).astype(image.dtype), numpy.sqrt(variance + 4e-5).astype(image.dtype)


def _numpy_of(image: Pixels) -> Any:
    """Give numpy, or jax.numpy for its arrays."""
    return image.__array_namespace__()


COLOR_FIXES: dict[ColorFix, Callable[[Any, Any], Any]] = {
    "adain": adain,
    "wavelet": wavelet,
    "none": lambda result, reference: result,
}
