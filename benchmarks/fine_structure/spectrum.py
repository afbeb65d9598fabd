"""Texture by spatial frequency: is there as much of it as in the truth, and does it lie where the truth's does?"""

import numpy as np
from jaxtyping import Complex, Float, Int, UInt8

from tvt_jax.metrics.luma import ycbcr_luma

# In cycles a pixel; a picture enlarged four times holds nothing above 1/8 that was in the input.
BANDS = ((1 / 64, 1 / 32), (1 / 32, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))


def spectrum(luma: Float[np.ndarray, "h w"]) -> Complex[np.ndarray, "h w"]:
    """Fourier-transform without the mean, under a Hann window: borders that do not fit each other make no energy."""
    window = np.outer(np.hanning(luma.shape[0]), np.hanning(luma.shape[1]))
    return np.fft.fft2((luma - luma.mean()) * window)


def rings(height: int, width: int) -> Int[np.ndarray, "h w"]:
    """Return the index into `BANDS` of each coefficient, by the length of its frequency; -1 for those in none."""
    length = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    index = np.full(length.shape, -1)
    for i, (low, high) in enumerate(BANDS):
        index[(length >= low) & (length < high)] = i
    return index


def compare(image: UInt8[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"]) -> dict[str, list[float]]:
    """Compare by band: `energy`, the luma's energy over the truth's in dB, and `correlation` with the truth's.

    The correlation of all coefficients in a ring is the Fourier ring correlation (Saxton & Baumeister, 1982): 1 for
    equal pictures, 0 for independent ones, whatever their energy.
    """
    x, y = (spectrum(ycbcr_luma(picture)) for picture in (image, truth))
    index = rings(*x.shape)
    figures: dict[str, list[float]] = {"energy": [], "correlation": []}
    for band in range(len(BANDS)):
        a, b = x[index == band], y[index == band]
        energy_a, energy_b = np.vdot(a, a).real, np.vdot(b, b).real
        figures["energy"].append(float(10 * np.log10(energy_a / energy_b)))
        figures["correlation"].append(float(np.vdot(a, b).real / np.sqrt(energy_a * energy_b)))
    return figures
