"""Text in RealSR's test pairs: signs, labels and print, which a camera saw near and far."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from benchmarks import text
from benchmarks.fine_structure.errors import Line

HEIGHTS = ((1, 24), (25, 36), (37, 64))  # pixels of a line's box in the truth, both ends included
COLUMNS = ("all", *(f"{low}-{high} px high" for low, high in HEIGHTS), "Latin", "Chinese")


@cache
def lines_of() -> dict[str, tuple[text.TextLine, ...]]:
    """Return what is written where, by the pair's name.

    The boxes are a detector's, the text is a recogniser's, both on the truth. Lines that looking at them did not
    confirm were dropped, so the truth itself is read without a mistake.
    """
    known = json.loads(Path(__file__).with_name("scene_text.json").read_text(encoding="utf-8"))
    return {name: tuple(_line(written, *box) for written, *box in lines) for name, lines in known.items()}


def _line(written: str, left: int, top: int, right: int, bottom: int) -> text.TextLine:
    return text.TextLine(text=written, box=(left, top, right, bottom), size=bottom - top)


def read_lines(name: str, image: UInt8[np.ndarray, "h w 3"], reader: text.Reader) -> list[Line]:
    """Read a result for the pair of that name; a pair without text gives no lines."""
    lines = lines_of().get(name, ())
    found = text.read_page(image, lines, reader)
    return [
        Line(written=line.text, read=read, picture=name, columns=_columns(line))
        for line, read in zip(lines, found, strict=True)
    ]


def _columns(line: text.TextLine) -> tuple[str, ...]:
    heights = (f"{low}-{high} px high" for low, high in HEIGHTS if low <= line.size <= high)
    chinese = any("\u4e00" <= character <= "\u9fff" for character in line.text)
    return ("all", *heights, "Chinese" if chinese else "Latin")
