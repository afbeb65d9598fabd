"""Models to choose from, loaded before the first visitor comes."""

from collections.abc import Sequence
from pathlib import Path

from tvt_jax.hub import find
from tvt_jax.inference import load
from tvt_jax.inference.mark import fingerprint
from tvt_jax.inference.upscaler import PRETRAINED
from tvt_jax.serve.names import distinct
from tvt_jax.serve.work import Model


def load_models(paths: Sequence[Path], tile: int | None, dtype: str) -> dict[str, Model]:
    """Load model folders, by the names they are chosen by; without any, the one in the package.

    Raises:
        ValueError: one is no model folder, or can't upscale.
    """
    folders = [find(path) for path in paths or [PRETRAINED]]
    models = {}
    for name, folder in zip(distinct(folder.name for folder in folders), folders, strict=True):
        # Of all ways to give colours back, adain's takes the most memory: estimates hold for each.
        upscaler = load(folder, color_fix="adain", tile=tile, dtype=dtype)
        if upscaler.unet is None:
            raise ValueError(f"{folder} has a VAE but no UNet: it can't upscale")
        models[name] = Model(upscaler=upscaler, fingerprint=fingerprint(folder))
    return models
