"""The metrics by name."""

from collections.abc import Callable
from functools import partial

import numpy as np

from tvt_jax.metrics.dists import dists
from tvt_jax.metrics.lpips import lpips
from tvt_jax.metrics.niqe import niqe
from tvt_jax.metrics.psnr import psnr_y
from tvt_jax.metrics.ssim import ssim_y

Metric = Callable[[np.ndarray, np.ndarray], float]

METRICS: dict[str, Metric] = {
    "psnr-y": psnr_y,
    "ssim-y": ssim_y,
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
