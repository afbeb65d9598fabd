"""Pictures of text by index: what is drawn, and how it is seen."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from tvt_jax.data.text import drawings, scenes
from tvt_jax.data.text.ink import Picture
from tvt_jax.data.text.manifest import Manifest, load
from tvt_jax.data.text.studio import Studio

Scene = Callable[[Studio, np.random.Generator, int], Picture]

# How often each comes, and how often it is seen from the side instead of from the front.
SCENES: tuple[tuple[Scene, float, float], ...] = (
    (scenes.page, 0.24, 0.2),
    (scenes.rasterised, 0.16, 0.1),
    (scenes.sign, 0.16, 0.4),
    (scenes.label, 0.08, 0.4),
    (scenes.receipt, 0.08, 0.3),
    (scenes.screen, 0.12, 0.0),
    (drawings.chart, 0.05, 0.0),
    (drawings.lines, 0.04, 0.0),
    (drawings.hatching, 0.02, 0.0),
    (drawings.shapes, 0.03, 0.1),
    (drawings.gradient, 0.02, 0.0),
)
_TURNED = 0.04  # of the pictures lie on their side, as the backs of books do


class TextSource:
    """As many pictures as its manifest says; picture i depends on the manifest's seed and on i alone.

    They stand upright and are not mirrored, as text is met.

    Raises what `Studio` does.
    """

    upright = True

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._studio = Studio(manifest)
        self._often = np.cumsum([often for _, often, _ in SCENES])

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapped files stay where they are: a worker process opens its own.
        return TextSource, (self._manifest,)

    def __len__(self) -> int:
        return self._manifest.examples

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "side side 3"]:
        generator = np.random.default_rng((self._manifest.seed, index))
        number = int(np.searchsorted(self._often, generator.random() * self._often[-1], side="right"))
        scene, _, aslant = SCENES[number]
        side = self._manifest.side
        if generator.random() < aslant:
            picture = seen_aslant(scene(self._studio, generator, 2 * side), generator)
        else:
            picture = scene(self._studio, generator, side)
        return np.ascontiguousarray(np.rot90(picture)) if generator.random() < _TURNED else picture


def open_text(folder: Path) -> TextSource:
    """Give the pictures of a folder with a `text.json`; raises what `manifest.load` and `Studio` do."""
    return TextSource(load(folder))


def seen_aslant(picture: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Half the size, in slight perspective, and bent as a page or a bottle's label is, by chance."""
    side = len(picture) // 2
    y, x = _places(side)
    tilt_x, tilt_y, turn, bend = (np.float32(value) for value in generator.uniform(-1, 1, 4) * (0.2, 0.2, 0.1, 0.25))
    if generator.random() < 0.5:
        bend = np.float32(0)
    depth = (1 + tilt_x * x + tilt_y * y) * 2 * side
    across = (x + turn * y) * depth + side
    down = (y - turn * x + bend * x * x) * depth + side
    # (1, 2, 1) / 4 is as wide as a pixel of the result: without it letters would be jagged at half their size.
    softened = cv2.GaussianBlur(picture, (3, 3), 0)
    return cv2.remap(softened, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


@cache
def _places(side: int) -> Float[np.ndarray, "2 side side"]:
    """How far below and to the right of the middle each pixel lies; 1 for the whole side."""
    return np.mgrid[:side, :side].astype(np.float32) / np.float32(side) - np.float32(0.5)
