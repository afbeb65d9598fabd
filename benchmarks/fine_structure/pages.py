"""Pages of small text, drawn here and degraded: by degradation, size and contrast."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from benchmarks import text
from benchmarks.fine_structure.charts import quarter
from benchmarks.fine_structure.errors import Line
from tvt_jax.data.degradation import REAL_ESRGAN, TVT, degrade

Picture = UInt8[np.ndarray, "h w 3"]
DEGRADATIONS = {"TVT": TVT, "REAL_ESRGAN": REAL_ESRGAN, "averaged": None}
CONTRASTS = (200, 100, 50)  # grey values between ink and paper
# Pixels of the page, both ends included, a quarter of it in the input. Of smaller text nothing is left to read.
SIZES = ((12, 17), (18, 26), (27, 40), (41, 60))
COLUMNS = ("all", *DEGRADATIONS, *(f"{low}-{high} px" for low, high in SIZES), *(f"contrast {x}" for x in CONTRASTS))
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
        name: no other page has it.
        columns: of the table, that its lines count in.
    """

    page: text.TextPage
    small: Picture
    name: str
    columns: tuple[str, ...]


def chinese_word(generator: np.random.Generator) -> str:
    """Draw two to five Chinese characters."""
    return "".join(_CHINESE[i] for i in generator.integers(len(_CHINESE), size=generator.integers(2, 6)))


def draw(fonts: Sequence[Path], word: text.Word | None, count: int, side: int) -> Iterator[Page]:
    """Draw `count` pages of each degradation, contrast and size range, always the same, about half light on dark."""
    for i, (name, contrast, sizes) in enumerate([*product(DEGRADATIONS, CONTRASTS, SIZES)] * count):
        generator = np.random.default_rng(i)
        light, dark = (_PAPER,) * 3, (_PAPER - contrast,) * 3
        colours = (dark, light) if generator.random() < 0.5 else (light, dark)
        page = text.render_page(generator, fonts, height=side, width=side, sizes=sizes, colours=colours, word=word)
        config = DEGRADATIONS[name]
        small = quarter(page.image) if config is None else degrade(page.image, config, generator)
        columns = ("all", name, f"{sizes[0]}-{sizes[1]} px", f"contrast {contrast}")
        yield Page(page=page, small=small, name=str(i), columns=columns)


def read_lines(page: Page, image: Picture, reader: text.Reader) -> list[Line]:
    """Read a page's lines from a picture of it, of the page's size."""
    found = text.read_page(image, page.page.lines, reader)
    return [
        Line(written=line.text, read=read, picture=page.name, columns=page.columns)
        for line, read in zip(page.page.lines, found, strict=True)
    ]
