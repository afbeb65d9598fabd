"""The gallery: photos of examples/, enlarged and restored, under sliders."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from tools.site.pages import ROOT
from tvt_jax import slider

PLACE = "<!-- sliders -->"
# Each photo, and what stands above it.
PHOTOS = {
    "coffee": "Wood, porcelain and foam",
    "cat": "Fur",
    "astronaut": "A face, and small writing",
    "rocket": "Night",
    "text": "Text, which the embedded model does not make easier to read",
}


class Enlarging(Protocol):
    """What makes the pictures: an `Upscaler`."""

    def upscale(self, image: np.ndarray, /) -> np.ndarray:
        """Enlarge and restore a picture."""


def write_gallery(pages: Path, upscaler: Enlarging) -> None:
    """Put pictures and sliders into the pages written before.

    Raises:
        ValueError: the page has not one place for them.
    """
    page = pages / "gallery.md"
    before, *after = page.read_text(encoding="utf-8").split(PLACE)
    if len(after) != 1:
        raise ValueError(f"{page} must hold {PLACE} once")
    page.write_text(before + "\n".join(_comparisons(pages, upscaler)) + after[0], encoding="utf-8")
    assets = pages / "assets"
    assets.mkdir(exist_ok=True)
    (assets / "slider.css").write_text(slider.STYLE, encoding="utf-8")
    script = (Path(__file__).parent / "gallery.js").read_text(encoding="utf-8")
    (assets / "gallery.js").write_text(slider.SCRIPT + script, encoding="utf-8")


def _comparisons(pages: Path, upscaler: Enlarging) -> Iterator[str]:
    folder = pages / "images" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    for name, title in PHOTOS.items():
        photo = Image.open(ROOT / "examples" / f"{name}.jpg")
        restored = Image.fromarray(upscaler.upscale(np.asarray(photo)))
        restored.save(folder / f"{name}_restored.png")
        photo.resize(restored.size, Image.Resampling.BICUBIC).save(folder / f"{name}_enlarged.png")
        left, right = (f"images/gallery/{name}_{kind}.png" for kind in ("enlarged", "restored"))
        yield (
            f"## {title}\n\n"
            f'<div class="comparison" data-name="{html.escape(title)}" data-left="{left}" data-right="{right}" '
            f'data-width="{restored.width}" data-height="{restored.height}">'
            f'<noscript><img src="{left}" alt="enlarged"><img src="{right}" alt="restored"></noscript></div>\n'
        )
