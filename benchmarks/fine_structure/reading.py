"""Small text after degradation and enlargement, read back on known boxes: by size, contrast and degradation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tvt_jax.data.degradation import REAL_ESRGAN, TVT, degrade
from tvt_jax.metrics import text

Picture = UInt8[np.ndarray, "h w 3"]
PRESETS = {"TVT": TVT, "REAL_ESRGAN": REAL_ESRGAN}
CONTRASTS = (200, 100, 50)  # grey values between ink and paper
SIZES = ((6, 9), (10, 13), (14, 18), (19, 24))  # pixels, both ends included
_PAPER = 230
# The most frequent characters of Chinese: any run of them is a line to read.
_CHINESE = (
    "的一是不了人我在有他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没"
    "日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美"
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of text, and how it is degraded.

    Attributes:
        page: as it was written.
        small: degraded to a quarter of the size.
        preset: name of the degradation.
        contrast: one of `CONTRASTS`.
    """

    page: text.TextPage
    small: Picture
    preset: str
    contrast: int


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line as it was written and as it was read, and the circumstances."""

    written: str
    read: str
    size: int
    preset: str
    contrast: int


def chinese_word(generator: np.random.Generator) -> str:
    """Two to five characters."""
    return "".join(_CHINESE[i] for i in generator.integers(len(_CHINESE), size=generator.integers(2, 6)))


def pages(fonts: Sequence[Path], word: text.Word | None, count: int, side: int) -> Iterator[Page]:
    """`count` pages for each preset, contrast and range of sizes, always the same; every second is light on dark."""
    circumstances = [(preset, contrast, sizes) for preset in PRESETS for contrast in CONTRASTS for sizes in SIZES]
    for i, (preset, contrast, sizes) in enumerate(circumstances * count):
        generator = np.random.default_rng(i)
        light, dark = (_PAPER,) * 3, (_PAPER - contrast,) * 3
        colours = (dark, light) if i // len(circumstances) % 2 else (light, dark)
        page = text.render_page(generator, fonts, height=side, width=side, sizes=sizes, colours=colours, word=word)
        yield Page(page=page, small=degrade(page.image, PRESETS[preset], generator), preset=preset, contrast=contrast)


def read_lines(page: Page, image: Picture, reader: text.Reader) -> list[Line]:
    """Reads a picture of a page, of the page's size."""
    found = text.read_page(image, page.page.lines, reader)
    return [
        Line(written=line.text, read=read, size=line.size, preset=page.preset, contrast=page.contrast)
        for line, read in zip(page.page.lines, found, strict=True)
    ]


def titles(line: Line) -> list[str]:
    """The columns of the table that a line counts in."""
    sizes = [f"{low} to {high} px" for low, high in SIZES if low <= line.size <= high]
    return ["all", line.preset, *sizes, f"contrast {line.contrast}"]


TITLES = ("all", *PRESETS, *(f"{low} to {high} px" for low, high in SIZES), *(f"contrast {x}" for x in CONTRASTS))


def error_rates(lines: Sequence[Line]) -> dict[str, float]:
    """Character error rate by title; titles without a line are left out."""
    parts = {title: [line for line in lines if title in titles(line)] for title in TITLES}
    return {
        title: text.character_error_rate([line.written for line in part], [line.read for line in part])
        for title, part in parts.items()
        if part
    }


def measure(
    fonts: Sequence[Path],
    word: text.Word | None,
    methods: Mapping[str, Callable[[Picture], Picture]],
    reader: text.Reader,
    *,
    count: int,
    side: int,
) -> dict[str, dict[str, float]]:
    """Error rates of the pages themselves, of the degraded ones as they are, and of what each method makes of those."""
    lines: dict[str, list[Line]] = {name: [] for name in ("HR", "LR", *methods)}
    for page in pages(fonts, word, count, side):
        # Each pixel of the small page becomes a square, so that the boxes stay where they are; nothing is added.
        shown = {"HR": page.page.image, "LR": page.small.repeat(4, axis=0).repeat(4, axis=1)}
        shown |= {name: upscale(page.small) for name, upscale in methods.items()}
        for name, picture in shown.items():
            lines[name] += read_lines(page, picture, reader)
    return {name: error_rates(part) for name, part in lines.items()}
