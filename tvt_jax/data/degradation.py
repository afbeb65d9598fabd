"""Second-order Real-ESRGAN degradation on the host: drawing the parameters, and applying them.

Source: Real-ESRGAN (arXiv 2107.10833). See docs/degradation.md for the presets and for how to add one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from tvt_jax.data.kernels import KERNEL_KINDS, Kernel
from tvt_jax.data.operators import (
    INTERPOLATIONS,
    Interpolation,
    Noise,
    add_noise,
    blur,
    from_levels,
    jpeg,
    resize,
    to_levels,
)

Range = tuple[float, float]
T = TypeVar("T")


def _require_probabilities(**probabilities: float) -> None:
    for name, value in probabilities.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} {value} must lie in [0, 1]")


def _require_weights(name: str, weights: Sequence[float], count: int) -> None:
    if len(weights) != count or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"{name} {weights} must be {count} numbers from 0, not all 0")


def _require_range(name: str, limits: Range, around_one: bool = False) -> None:
    low, high = limits
    if not 0 <= low <= high:
        raise ValueError(f"{name} {limits} must be an increasing pair of numbers from 0")
    if around_one and not 0 < low <= 1 <= high:
        raise ValueError(f"{name} {limits} must be positive and include 1")


@dataclass(frozen=True, kw_only=True)
class Round:
    """Ranges of one round of blur, resize, noise and JPEG; numbers are drawn uniformly.

    Attributes:
        blur_probability: of any blur at all.
        blur_sigma: width of the blur, in pixels.
        resize_weights: how often to enlarge, shrink and keep.
        resize_factor: smallest and largest factor, around 1.
        gaussian_probability: of Gaussian noise; Poisson otherwise.
        gaussian_sigma: standard deviation of Gaussian noise, in levels of 255.
        poisson_scale: multiplier of Poisson noise.
        grey_probability: of the same noise in all channels.
        jpeg_quality: 1 to 100, both ends included.

    Raises:
        ValueError: if a number makes no sense.
    """

    blur_probability: float = 1.0
    blur_sigma: Range
    resize_weights: tuple[float, float, float]
    resize_factor: Range
    gaussian_probability: float = 0.5
    gaussian_sigma: Range
    poisson_scale: Range
    grey_probability: float = 0.4
    jpeg_quality: tuple[int, int]

    def __post_init__(self) -> None:
        _require_probabilities(
            blur_probability=self.blur_probability,
            gaussian_probability=self.gaussian_probability,
            grey_probability=self.grey_probability,
        )
        _require_weights("resize_weights", self.resize_weights, 3)
        _require_range("blur_sigma", self.blur_sigma)
        _require_range("resize_factor", self.resize_factor, around_one=True)
        _require_range("gaussian_sigma", self.gaussian_sigma)
        _require_range("poisson_scale", self.poisson_scale)
        low, high = self.jpeg_quality
        if not 1 <= low <= high <= 100:
            raise ValueError(f"jpeg_quality {self.jpeg_quality} must be an increasing pair in [1, 100]")


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Ranges of the whole second-order degradation.

    Attributes:
        first: first round, on the full-size image.
        second: second round; its resize factor is relative to the final size.
        kernel_sizes: sizes of the blur kernels, odd.
        kernel_weights: how often iso, aniso, generalized_iso, generalized_aniso, plateau_iso and plateau_aniso.
        sinc_probability: of a sinc instead of one of these six.
        generalized_beta: exponent of the generalised kinds, around 1.
        plateau_beta: exponent of the plateau kinds, from 1.
        final_sinc_probability: of a last sinc filter at the final size.
        sinc_before_jpeg_probability: of the final resize and sinc before the second JPEG; after it otherwise.

    Raises:
        ValueError: if a number makes no sense.
    """

    first: Round
    second: Round
    kernel_sizes: tuple[int, ...] = tuple(range(7, 22, 2))
    kernel_weights: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_probability: float = 0.1
    generalized_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    final_sinc_probability: float = 0.8
    sinc_before_jpeg_probability: float = 0.5

    def __post_init__(self) -> None:
        _require_probabilities(
            sinc_probability=self.sinc_probability,
            final_sinc_probability=self.final_sinc_probability,
            sinc_before_jpeg_probability=self.sinc_before_jpeg_probability,
        )
        _require_weights("kernel_weights", self.kernel_weights, len(KERNEL_KINDS) - 1)
        _require_range("generalized_beta", self.generalized_beta, around_one=True)
        _require_range("plateau_beta", self.plateau_beta, around_one=True)
        if not self.kernel_sizes or any(size < 1 or size % 2 == 0 for size in self.kernel_sizes):
            raise ValueError(f"kernel_sizes {self.kernel_sizes} must be one or more odd numbers")


TVT = Degradation(
    first=Round(
        blur_sigma=(0.2, 3.0),
        resize_weights=(0.2, 0.7, 0.1),
        resize_factor=(0.3, 1.5),
        gaussian_sigma=(1.0, 15.0),
        poisson_scale=(0.05, 2.0),
        jpeg_quality=(60, 95),
    ),
    second=Round(
        blur_probability=0.5,
        blur_sigma=(0.2, 1.5),
        resize_weights=(0.3, 0.4, 0.3),
        resize_factor=(0.6, 1.2),
        gaussian_sigma=(1.0, 12.0),
        poisson_scale=(0.05, 1.0),
        jpeg_quality=(60, 100),
    ),
)
REAL_ESRGAN = Degradation(
    first=replace(
        TVT.first,
        resize_factor=(0.15, 1.5),
        gaussian_sigma=(1.0, 30.0),
        poisson_scale=(0.05, 3.0),
        jpeg_quality=(30, 95),
    ),
    second=replace(
        TVT.second,
        blur_probability=0.8,
        resize_factor=(0.3, 1.2),
        gaussian_sigma=(1.0, 25.0),
        poisson_scale=(0.05, 2.5),
        jpeg_quality=(30, 95),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Resize:
    """A drawn resize: factor and interpolation."""

    factor: float
    interpolation: Interpolation


@dataclass(frozen=True, kw_only=True)
class RoundParameters:
    """What was drawn for one round; no blur when None."""

    blur: Kernel | None
    resize: Resize
    noise: Noise
    jpeg_quality: int


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """All that was drawn for one image, in plain numbers: `dataclasses.asdict` gives a record fit for JSON."""

    first: RoundParameters
    second: RoundParameters
    final_interpolation: Interpolation
    final_sinc: Kernel | None
    sinc_before_jpeg: bool


def degrade(
    image: UInt8[np.ndarray, "h w 3"], config: Degradation, generator: np.random.Generator, scale: int = 4
) -> UInt8[np.ndarray, "sh sw 3"]:
    """Degrade an RGB image to 1/scale of its size (rounded down, at least one pixel)."""
    return apply(image, draw(config, generator), generator, scale)


def draw(config: Degradation, generator: np.random.Generator) -> Parameters:
    """Draw the parameters of one degradation."""
    first = _draw_round(config, config.first, generator)
    second = _draw_round(config, config.second, generator)
    final_sinc = None
    if _chance(generator, config.final_sinc_probability):
        size = _pick(generator, config.kernel_sizes)
        final_sinc = Kernel(kind="sinc", size=size, cutoff=generator.uniform(np.pi / 3, np.pi))
    return Parameters(
        first=first,
        second=second,
        final_interpolation=_pick(generator, tuple(INTERPOLATIONS)),
        final_sinc=final_sinc,
        sinc_before_jpeg=_chance(generator, config.sinc_before_jpeg_probability),
    )


def apply(
    image: UInt8[np.ndarray, "h w 3"], parameters: Parameters, generator: np.random.Generator, scale: int = 4
) -> UInt8[np.ndarray, "sh sw 3"]:
    """Apply drawn parameters to an RGB image; the generator is used for the noise of the pixels alone.

    Raises:
        ValueError: if scale is below 1.
    """
    if scale < 1:
        raise ValueError(f"cannot degrade to 1/{scale}: the scale must be at least 1")
    height, width, _ = image.shape
    final = max(1, height // scale), max(1, width // scale)

    first, second = parameters.first, parameters.second
    x = blur(from_levels(image), first.blur)
    x = resize(x, _scaled(height, width, first.resize.factor), first.resize.interpolation)
    x = jpeg(add_noise(x, first.noise, generator), first.jpeg_quality)

    x = blur(x, second.blur)
    x = resize(x, _scaled(height / scale, width / scale, second.resize.factor), second.resize.interpolation)
    x = add_noise(x, second.noise, generator)
    if parameters.sinc_before_jpeg:
        x = blur(resize(x, final, parameters.final_interpolation), parameters.final_sinc)
        x = jpeg(x, second.jpeg_quality)
    else:
        x = jpeg(x, second.jpeg_quality)
        x = blur(resize(x, final, parameters.final_interpolation), parameters.final_sinc)
    return to_levels(x)


def _draw_round(config: Degradation, ranges: Round, generator: np.random.Generator) -> RoundParameters:
    blurred = _chance(generator, ranges.blur_probability)
    return RoundParameters(
        blur=_draw_kernel(config, ranges.blur_sigma, generator) if blurred else None,
        resize=_draw_resize(ranges, generator),
        noise=_draw_noise(ranges, generator),
        jpeg_quality=int(generator.integers(*ranges.jpeg_quality, endpoint=True)),
    )


def _draw_kernel(config: Degradation, sigma: Range, generator: np.random.Generator) -> Kernel:
    size = _pick(generator, config.kernel_sizes)
    if _chance(generator, config.sinc_probability):
        # A small window cannot hold the ringing of a low cutoff.
        lowest = np.pi / 3 if size < 13 else np.pi / 5
        return Kernel(kind="sinc", size=size, cutoff=generator.uniform(lowest, np.pi))
    kind = _pick(generator, KERNEL_KINDS[:-1], config.kernel_weights)
    beta = 1.0
    if kind.startswith("generalized"):
        beta = _draw_around_one(config.generalized_beta, generator)
    elif kind.startswith("plateau"):
        beta = _draw_around_one(config.plateau_beta, generator)
    width = generator.uniform(*sigma)
    if not kind.endswith("aniso"):
        return Kernel(kind=kind, size=size, sigma_x=width, sigma_y=width, beta=beta)
    other, rotation = generator.uniform(*sigma), generator.uniform(-np.pi, np.pi)
    return Kernel(kind=kind, size=size, sigma_x=width, sigma_y=other, rotation=rotation, beta=beta)


def _draw_around_one(limits: Range, generator: np.random.Generator) -> float:
    """Draw below or above 1 with equal chance, as published: a range from 1 gives exactly 1 half the time."""
    return generator.uniform(limits[0], 1) if _chance(generator, 0.5) else generator.uniform(1, limits[1])


def _draw_resize(ranges: Round, generator: np.random.Generator) -> Resize:
    smallest, largest = ranges.resize_factor
    limits = _pick(generator, ((1.0, largest), (smallest, 1.0), (1.0, 1.0)), ranges.resize_weights)
    return Resize(factor=generator.uniform(*limits), interpolation=_pick(generator, tuple(INTERPOLATIONS)))


def _draw_noise(ranges: Round, generator: np.random.Generator) -> Noise:
    gaussian = _chance(generator, ranges.gaussian_probability)
    strength = generator.uniform(*(ranges.gaussian_sigma if gaussian else ranges.poisson_scale))
    grey = _chance(generator, ranges.grey_probability)
    return Noise(kind="gaussian" if gaussian else "poisson", strength=strength, grey=grey)


def _chance(generator: np.random.Generator, probability: float) -> bool:
    return generator.random() < probability


def _pick(generator: np.random.Generator, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """Pick one of the options; much faster than Generator.choice for so few, and keeps their type."""
    if weights is None:
        return options[int(generator.integers(len(options)))]
    cumulative = np.cumsum(weights)
    return options[int(np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right"))]


def _scaled(height: int | float, width: int | float, factor: float) -> tuple[int, int]:
    return max(1, int(height * factor)), max(1, int(width * factor))
