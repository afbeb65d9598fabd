"""Pictures of two folders that belong together."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tvt_jax.data.sources import by_partner_name
from tvt_jax.inference.images import READABLE, read_picture

Pairs = dict[str, tuple[Path, Path]]


def find_pairs(images: Path, references: Path) -> tuple[Pairs, dict[str, str]]:
    """Match the pictures of two folders by file name without ending and without a last _LR4, _SR, _HR or _GT.

    Returns:
        (image, reference) by name, and by name why a picture has no partner.

    Raises:
        FileNotFoundError: one of them is not a folder.
        ValueError: no two pictures belong together, or two in a folder have the same name.
    """
    found, truths = _pictures(images), _pictures(references)
    if not found.keys() & truths.keys():
        raise ValueError(f"no picture in {images} has the name of one in {references}")
    alone = dict.fromkeys(sorted(found.keys() - truths.keys()), f"has no partner in {references}")
    alone |= dict.fromkeys(sorted(truths.keys() - found.keys()), f"has no partner in {images}")
    return {name: (found[name], truths[name]) for name in sorted(found.keys() & truths.keys())}, alone


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    shown = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return by_partner_name((path for path in shown if path.suffix.lower() in READABLE), folder)


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture as RGB, grey repeated and alpha left out: what a viewer without transparency shows."""
    pixels = read_picture(path).pixels
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
