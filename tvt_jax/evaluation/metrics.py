"""The metrics by name."""

from collections.abc import Callable
from functools import partial

import numpy as np

from tvt_jax.metrics.dists import dists
from tvt_jax.metrics.lpips import lpips
from tvt_jax.metrics.luma import Pixels, levels
from tvt_jax.metrics.niqe import FEW_BLOCKS, blocks, niqe
from tvt_jax.metrics.psnr import psnr_rgb, psnr_y
from tvt_jax.metrics.ssim import ssim_rgb, ssim_y

Metric = Callable[[Pixels, Pixels], float]

METRICS: dict[str, Metric] = {
    "psnr-y": psnr_y,
    "psnr-rgb": psnr_rgb,
    "ssim-y": ssim_y,
    "ssim-rgb": ssim_rgb,
    "lpips-alex": partial(lpips, net="alex"),
    "lpips-vgg": partial(lpips, net="vgg"),
    "dists": dists,
    "niqe": lambda image, reference: niqe(image),
}
DEFAULT_METRICS = "psnr-y,ssim-y,lpips-alex,dists,niqe"


def choose_metrics(names: str) -> dict[str, Metric]:
    """Look up metrics by their names, joined by commas; raise ValueError where one is unknown."""
    unknown = [name for name in names.split(",") if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric '{unknown[0]}', choose from {','.join(METRICS)}")
    return {name: METRICS[name] for name in names.split(",")}


def doubts(image: np.ndarray, reference: np.ndarray, values: dict[str, float]) -> list[str]:
    """Say what makes values that were measured say less than they seem to."""
    found = []
    if "niqe" in values and blocks(image) < FEW_BLOCKS:
        found.append(f"NIQE rests on {blocks(image)} blocks of 96x96 pixels, and comes out too high below {FEW_BLOCKS}")
    if np.array_equal(levels(image), levels(reference)):
        found.append("equals the truth; where PSNR would be infinite it is pyiqa's 80 dB")
    return found
