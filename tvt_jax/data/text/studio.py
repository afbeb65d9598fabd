"""What scenes are made of: lines of text by script, face and size, colours, and surfaces to write on."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8

from tvt_jax.data.text.ink import Colour, Ink, Line, Picture
from tvt_jax.data.text.manifest import Manifest

# How often each script is drawn; code and figures are also asked for by name.
SCRIPTS = {"latin": 8.0, "zh": 3.0, "ja": 2.5, "ru": 2.5, "ko": 1.5, "figures": 2.5, "code": 0.5}
_LUMA = (0.299, 0.587, 0.114)

T = TypeVar("T")


class Studio:
    """Everything in the folder of a manifest, opened.

    Raises:
        FileNotFoundError: An array is missing.
        ValueError: An array is not what it should be, or there is no line of figures or of code.
    """

    def __init__(self, manifest: Manifest) -> None:
        # As plain arrays, still mapped: numpy's memmap takes longer to cut than the ink to copy.
        self._lines, self._ink, self._breaks = (np.asarray(manifest.array(name)) for name in ("lines", "ink", "breaks"))
        self._pages, self._backgrounds = (manifest.optional_array(name) for name in ("pages", "backgrounds"))
        self._textures = [_texture(np.random.default_rng(number)) for number in range(6)]
        # Script -> family -> face -> size -> the lines' numbers: families are equally likely, however many faces and
        # lines they have.
        self._scripts: dict[str, list[dict[int, dict[int, list[int]]]]] = {}
        for number, script in enumerate(manifest.scripts):
            families: dict[str, dict[int, dict[int, list[int]]]] = defaultdict(dict)
            for row in np.flatnonzero(self._lines["script"] == number).tolist():
                face, size = int(self._lines["face"][row]), int(self._lines["size"][row])
                families[manifest.families[face]].setdefault(face, {}).setdefault(size, []).append(row)
            self._scripts[script] = list(families.values())
        if missing := [script for script in ("figures", "code") if not self._scripts.get(script)]:
            raise ValueError(
                f"{manifest.folder} has no line of {missing[0]}: give the tools/fetch_text.py command again"
            )
        self._often = np.cumsum([SCRIPTS[script] for script in manifest.scripts])

    def script(self, generator: np.random.Generator) -> str:
        """One of the scripts."""
        at = np.searchsorted(self._often, generator.random() * self._often[-1], side="right")
        return list(self._scripts)[int(at)]

    def face(self, script: str, generator: np.random.Generator) -> "Face":
        """Draw a face for a script."""
        return Face(self, pick(list(pick(self._scripts[script], generator).values()), generator))

    def line(self, number: int) -> Line:
        """Give a line by its number."""
        _, _, _, height, width, above, at, first, letters, words = self._lines[number].item()
        return Line(
            ink=self._ink[at : at + height * width].reshape(height, width),
            above=above,
            letters=self._breaks[first : first + letters],
            words=self._breaks[first + letters : first + letters + words],
        )

    def background(self, side: int, generator: np.random.Generator) -> Picture | None:
        """Draw a piece of a photo, if there are any."""
        if self._backgrounds is None:
            return None
        photo = self._backgrounds[int(generator.integers(len(self._backgrounds)))]
        return cv2.resize(photo, (side, side), interpolation=cv2.INTER_CUBIC) if len(photo) != side else photo.copy()

    def page(self, side: int, generator: np.random.Generator) -> Ink | None:
        """Draw a piece of a rasterised page, if there are any that large."""
        if self._pages is None or min(self._pages.shape[1:]) < side:
            return None
        page = self._pages[int(generator.integers(len(self._pages)))]
        top, left = (int(generator.integers(length - side + 1)) for length in page.shape)
        return page[top : top + side, left : left + side]

    def textured(self, picture: Picture, generator: np.random.Generator) -> Picture:
        """Give a picture the unevenness of paper or paint, by chance: half stay as they are."""
        if generator.random() < 0.5:
            return picture
        texture = pick(self._textures, generator)
        top, left = (int(generator.integers(len(texture) - length + 1)) for length in picture.shape[:2])
        part = texture[top : top + picture.shape[0], left : left + picture.shape[1]]
        strength = float(generator.uniform(0.1, 0.6))
        return cv2.addWeighted(picture, 1, cv2.merge([part, part, part]), strength, -128 * strength)


class Face:
    """A face and the lines that are written with it."""

    def __init__(self, studio: Studio, lines: dict[int, list[int]]) -> None:
        self._studio = studio
        self._lines = lines
        self.sizes = sorted(lines)  # of the em, in pixels

    def size(self, generator: np.random.Generator, low: int = 0, high: int = 1000) -> int:
        """One of its sizes between two, the nearest to the lower if there is none."""
        sizes = [size for size in self.sizes if low <= size <= high]
        return pick(sizes, generator) if sizes else min(self.sizes, key=lambda size: abs(size - low))

    def line(self, size: int, generator: np.random.Generator) -> Line:
        """Draw a line of that size, or the next larger."""
        nearest = self.sizes[min(bisect_left(self.sizes, size), len(self.sizes) - 1)]
        return self._studio.line(pick(self._lines[nearest], generator))


def pick(options: Sequence[T], generator: np.random.Generator) -> T:
    """One of the options."""
    return options[int(generator.integers(len(options)))]


def draw_colours(generator: np.random.Generator) -> tuple[Colour, Colour]:
    """Paper and ink: dark on light, light on dark, coloured, or of little contrast (25 to 80 levels of luma)."""
    kind = generator.random()
    if kind < 0.6:
        light, dark = draw_grey(205, 256, generator), draw_grey(0, 70, generator)
        return (light, dark) if kind < 0.42 else (dark, light)
    low, high = (80, 256) if kind < 0.85 else (25, 80)
    while True:
        paper, ink = draw_colour(generator), draw_colour(generator)
        if low < abs(luma(paper) - luma(ink)) <= high:
            return paper, ink


def draw_grey(low: int, high: int, generator: np.random.Generator) -> Colour:
    """Draw a grey or nearly grey colour of about that brightness."""
    grey, tint = int(generator.integers(low, high)), generator.integers(-8, 9, 3)
    red, green, blue = (int(value) for value in np.clip(grey + tint * int(generator.integers(2)), 0, 255))
    return red, green, blue


def draw_colour(generator: np.random.Generator) -> Colour:
    """Any colour, pale ones more often than bright ones."""
    bright = generator.integers(0, 256, 3).tolist()
    mean, strength = sum(bright) / 3, generator.uniform(0.1, 1)
    red, green, blue = (int(mean + strength * (value - mean)) for value in bright)
    return red, green, blue


def luma(colour: Colour) -> float:
    """BT.601's brightness, 0 to 255."""
    return sum(weight * value for weight, value in zip(_LUMA, colour, strict=True))


def _texture(generator: np.random.Generator, side: int = 640) -> UInt8[np.ndarray, "side side"]:
    """Smooth unevenness around 128. No grain of single pixels: it would be taught as detail."""
    fine, coarse = (
        cv2.GaussianBlur(generator.standard_normal((side, side)).astype(np.float32), (0, 0), sigma)
        for sigma in (generator.uniform(1, 2), generator.uniform(8, 30))
    )
    mixed = fine / fine.std() * generator.uniform(2, 8) + coarse / coarse.std() * generator.uniform(4, 14)
    return np.clip(np.rint(mixed + 128), 0, 255).astype(np.uint8)
