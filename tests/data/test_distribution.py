"""What the drawn parameters do, against the published procedure written anew: the spread of blurs, noises, sizes.

`test_degradation.py` has the ranges of the parameters one by one. Here both sides draw on their own, and what is
compared is what the operators make of it, so that a mistake in how numbers belong together shows too.
"""

import math

import numpy as np
import pytest
from scipy import special, stats

from tvt_jax.data.degradation import REAL_ESRGAN, TVT, RoundParameters, draw
from tvt_jax.data.kernels import kernel_taps
from tvt_jax.data.operators import add_noise

DRAWS = 2000
PRESETS = {"TVT": TVT, "REAL_ESRGAN": REAL_ESRGAN}
# 28 comparisons at this level: a right implementation fails one of them for one choice of seeds in 3,500. At 2,000
# draws a side, a shift of two distribution functions by 0.08 is found.
LEVEL = 1e-5

# The published numbers of a round, apart from the code: blur probability and widths, weights of enlarging, shrinking
# and keeping, factor, Gaussian sigma, Poisson scale, JPEG quality.
PUBLISHED = {
    "TVT": (
        (1.0, (0.2, 3), (0.2, 0.7, 0.1), (0.3, 1.5), (1, 15), (0.05, 2), (60, 95)),
        (0.5, (0.2, 1.5), (0.3, 0.4, 0.3), (0.6, 1.2), (1, 12), (0.05, 1), (60, 100)),
    ),
    "REAL_ESRGAN": (
        (1.0, (0.2, 3), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3), (30, 95)),
        (0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
    ),
}
# What a round is known by; blurs have either the sinc's figure or the three others.
NAMES = ("noise gain", "sinc noise gain", "width", "stretch", "factor", "noise", "quality")
# Something to make noise on: dark to bright, never clipped much.
PATCH = np.random.default_rng(0).integers(40, 216, (16, 16, 3)).astype(np.float32) / 255


def sinc(size: int, cutoff: float) -> np.ndarray:
    """Equation 6 of the paper, at the distance of every tap from the centre."""
    rows, columns = np.mgrid[:size, :size] - size // 2
    radius = np.sqrt(rows**2.0 + columns**2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        taps = cutoff / (2 * math.pi * radius) * special.jv(1, cutoff * radius)
    return np.where(radius == 0, cutoff**2 / (4 * math.pi), taps)


def bivariate(size: int, covariance: np.ndarray, shape: str, beta: float) -> np.ndarray:
    """Section 3.2 of the paper: exp(-(x' S^-1 x)^b / 2), or 1 / (1 + (x' S^-1 x)^b) for a plateau."""
    x = np.moveaxis(np.mgrid[:size, :size][::-1] - size // 2, 0, -1)
    power = np.einsum("yxi,ij,yxj->yx", x, np.linalg.inv(covariance), x) ** beta
    return 1 / (1 + power) if shape == "plateau" else np.exp(-power / 2)


def published_kernel(widths: tuple[float, float], rng: np.random.Generator) -> tuple[bool, np.ndarray]:
    """Whether it is a sinc, and the taps."""
    size = rng.choice(range(7, 22, 2))
    if rng.random() < 0.1:
        taps = sinc(size, rng.uniform(math.pi / 3 if size < 13 else math.pi / 5, math.pi))
        return True, taps / taps.sum()
    kind = rng.choice(6, p=[0.45, 0.25, 0.12, 0.03, 0.12, 0.03])
    shape, stretched = ("plain", "generalized", "plateau")[kind // 2], kind % 2
    low, high = {"plain": (1, 1), "generalized": (0.5, 4), "plateau": (1, 2)}[shape]
    beta = rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
    x, y, angle = *rng.uniform(*widths, 2), rng.uniform(-math.pi, math.pi)
    axes = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    covariance = axes @ np.diag([x**2, y**2]) @ axes.T if stretched else np.eye(2) * x**2
    taps = bivariate(size, covariance, shape, beta)
    return False, taps / taps.sum()


def published_noise_level(sigma: tuple, scale: tuple, rng: np.random.Generator) -> float:
    """Root mean square of what is added to the patch."""
    gaussian, grey = rng.random() < 0.5, rng.random() < 0.4
    x = PATCH.astype(np.float64)
    if gaussian:
        added = rng.uniform(*sigma) / 255 * rng.standard_normal((16, 16, 1 if grey else 3))
    else:
        seen = np.round((x * [0.2989, 0.587, 0.114]).sum(-1, keepdims=True) * 255 if grey else x * 255) / 255
        counts = 2 ** math.ceil(math.log2(len(np.unique(seen))))
        added = rng.uniform(*scale) * (rng.poisson(seen * counts) / counts - seen)
    return rms(np.clip(x + added, 0, 1) - x)


def published_round(numbers: tuple, rng: np.random.Generator) -> dict[str, float]:
    blur_probability, widths, weights, factor, sigma, scale, quality = numbers
    figures = kernel_figures(*published_kernel(widths, rng)) if rng.random() < blur_probability else {}
    direction = rng.choice(3, p=weights)
    low, high = ((1, factor[1]), (factor[0], 1), (1, 1))[direction]
    noise = published_noise_level(sigma, scale, rng)
    # Published as a real number: in distribution ours is at most 1/36 away, a third of what would be found.
    return figures | {"factor": rng.uniform(low, high), "noise": noise, "quality": rng.uniform(*quality)}


def kernel_figures(is_sinc: bool, taps: np.ndarray) -> dict[str, float]:
    """How much white noise is left; but for a sinc (its second moment means little) also width and stretch."""
    figures = {"sinc noise gain" if is_sinc else "noise gain": float((taps**2).sum())}
    if is_sinc:
        return figures
    y, x = np.mgrid[: len(taps), : len(taps)] - len(taps) // 2
    both = (taps * x * y).sum()
    variances = np.linalg.eigvalsh([[(taps * x * x).sum(), both], [both, (taps * y * y).sum()]])
    narrow, wide = np.sqrt(np.maximum(variances, 0))
    # Rounded, so that round kernels are ties in whichever precision their taps were made.
    return figures | {"width": math.hypot(narrow, wide), "stretch": round(wide - narrow, 3)}


def our_round(drawn: RoundParameters, rng: np.random.Generator) -> dict[str, float]:
    figures = (
        kernel_figures(drawn.blur.kind == "sinc", kernel_taps(drawn.blur).astype(np.float64)) if drawn.blur else {}
    )
    noise = rms(add_noise(PATCH, drawn.noise, rng) - PATCH)
    return figures | {"factor": drawn.resize.factor, "noise": noise, "quality": float(drawn.jpeg_quality)}


def rms(x: np.ndarray) -> float:
    return math.sqrt(np.square(x, dtype=np.float64).mean())


def columns(rounds: list[dict[str, float]]) -> dict[str, list[float]]:
    """Every figure over the rounds that have it; the share of blurred rounds is in `test_degradation.py`."""
    return {name: [figures[name] for figures in rounds if name in figures] for name in NAMES}


@pytest.mark.parametrize("index", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("name", PRESETS)
def test_rounds_are_distributed_as_published(name: str, index: int):
    rng = np.random.default_rng(1)
    published = columns([published_round(PUBLISHED[name][index], rng) for _ in range(DRAWS)])
    drawn = [draw(PRESETS[name], rng) for _ in range(DRAWS)]
    ours = columns([our_round((p.first, p.second)[index], rng) for p in drawn])
    for figure in NAMES:
        found = stats.ks_2samp(ours[figure], published[figure])
        assert found.pvalue > LEVEL, f"{figure}: {found}"
