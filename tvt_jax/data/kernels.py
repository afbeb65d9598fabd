"""Blur kernels of the Real-ESRGAN degradation: six bivariate families and the sinc."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy import special

KernelKind = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso", "sinc"]
KERNEL_KINDS: tuple[KernelKind, ...] = get_args(KernelKind)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One blur kernel, in plain numbers.

    Attributes:
        kind: family; the `_iso` ones expect equal widths.
        size: taps along a side, odd.
        sigma_x: width along the first axis of the ellipse, in pixels (all but sinc).
        sigma_y: width along the second axis, in pixels (all but sinc).
        rotation: angle of the ellipse in radians (all but sinc).
        beta: shape exponent (generalised and plateau kinds).
        cutoff: angular frequency in radians a pixel, at most pi (sinc).

    Raises:
        ValueError: there is no such kind, or a number makes no sense.
    """

    kind: KernelKind
    size: int
    sigma_x: float = 1.0
    sigma_y: float = 1.0
    rotation: float = 0.0
    beta: float = 1.0
    cutoff: float = np.pi

    def __post_init__(self) -> None:
        if self.kind not in KERNEL_KINDS:
            raise ValueError(f"unknown kernel kind {self.kind!r}: choose one of {', '.join(KERNEL_KINDS)}")
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"kernel size {self.size} is not odd and positive")
        if min(self.sigma_x, self.sigma_y) <= 0:
            raise ValueError(f"kernel widths {self.sigma_x} and {self.sigma_y} must be positive: no blur is None")


def kernel_taps(kernel: Kernel) -> Float[np.ndarray, "k k"]:
    """Compute the taps of a kernel, float32, summing to one.

    Source: Real-ESRGAN (arXiv 2107.10833), section 3.2 (families) and equation 6 (sinc).
    """
    taps = _sinc(kernel) if kernel.kind == "sinc" else _bivariate(kernel)
    return (taps / taps.sum()).astype(np.float32)


def _bivariate(kernel: Kernel) -> Float[np.ndarray, "k k"]:
    distance = _squared_distance(kernel)
    if kernel.kind.startswith("plateau"):
        return 1 / (distance**kernel.beta + 1)
    if kernel.kind.startswith("generalized"):
        return np.exp(-0.5 * distance**kernel.beta)
    return np.exp(-0.5 * distance)


def _squared_distance(kernel: Kernel) -> Float[np.ndarray, "k k"]:
    """Compute the squared Mahalanobis distance of every tap from the centre."""
    axis = np.arange(kernel.size) - kernel.size // 2
    x, y = axis[None, :], axis[:, None]
    cos, sin = np.cos(kernel.rotation), np.sin(kernel.rotation)
    return ((cos * x + sin * y) / kernel.sigma_x) ** 2 + ((cos * y - sin * x) / kernel.sigma_y) ** 2


def _sinc(kernel: Kernel) -> Float[np.ndarray, "k k"]:
    """Compute a circular ideal low-pass filter: cutoff * J1(cutoff * r) / (2 pi r), with its limit at r = 0."""
    axis = np.arange(kernel.size) - kernel.size // 2
    radius = np.hypot(axis[None, :], axis[:, None])
    centre = kernel.size // 2
    radius[centre, centre] = 1
    taps = kernel.cutoff * special.j1(kernel.cutoff * radius) / (2 * np.pi * radius)
    taps[centre, centre] = kernel.cutoff**2 / (4 * np.pi)
    return taps
