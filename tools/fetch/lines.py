"""Lines of text as ink, drawn with every face in every script and size."""

from collections.abc import Iterator, Sequence
from zlib import crc32

import cv2
import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from tools.fetch.fonts import Face
from tools.fetch.writing import Writing
from tvt_jax.data.text.ink import Line
from tvt_jax.data.text.manifest import LINE
from tvt_jax.data.text.studio import SCRIPTS

SIZES = (8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 23, 26, 30, 36, 44, 54, 66, 80)  # of the em, in pixels
WIDTH = 1024  # pixels of a line
SMALL, SMALL_LINES, LARGE_LINES = 26, 3, 1  # lines of each script, face and size, below that size and from it on
MORE = {"zh": 4, "ja": 2, "ko": 2}  # times as many, where there are many characters and few faces


def draw_lines(
    faces: Sequence[Face], writing: Writing
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, np.ndarray]]:
    """Names of the scripts, families of the faces, and the arrays lines, ink and breaks; the same every time."""
    scripts = sorted({script for face in faces for script in _scripts(face)}, key=list(SCRIPTS).index)
    rows, inks, breaks = [], [], []
    at = breaks_at = 0
    for number, face in enumerate(tqdm(faces, desc="lines")):
        for script, size, line in _lines(face, writing):
            height, width = line.ink.shape
            row = (scripts.index(script), number, size, height, width, line.above, at, breaks_at)
            rows.append((*row, len(line.letters), len(line.words)))
            inks.append(line.ink.ravel())
            breaks.append(np.concatenate([line.letters, line.words]).astype(np.int16))
            at, breaks_at = at + line.ink.size, breaks_at + len(breaks[-1])
    arrays = {"lines": np.array(rows, LINE), "ink": np.concatenate(inks), "breaks": np.concatenate(breaks)}
    return tuple(scripts), tuple(face.family for face in faces), arrays


def _scripts(face: Face) -> dict[str, list[str]]:
    """Give the texts that a face can write, by script."""
    scripts: dict[str, list[str]] = {}
    for text in face.texts:
        script = text.split("_")[0]
        scripts.setdefault(script if script in SCRIPTS else "latin", []).append(text)
    return scripts


def _lines(face: Face, writing: Writing) -> Iterator[tuple[str, int, Line]]:
    for script, texts in _scripts(face).items():
        for size in SIZES:
            font = ImageFont.truetype(face.file, size, layout_engine=ImageFont.Layout.BASIC)
            generator = np.random.default_rng((crc32(f"{face.file.name} {script}".encode()), size))
            for _ in range((SMALL_LINES if size < SMALL else LARGE_LINES) * MORE.get(script, 1)):
                text = texts[int(generator.integers(len(texts)))]
                length = (1 if script in MORE else 2) * WIDTH // size  # characters of about an em, or of half of it
                yield script, size, draw(font, writing.running(text, length, generator))


def draw(font: ImageFont.FreeTypeFont, text: str) -> Line:
    """Draw a line of text, as long as the text but no longer than WIDTH; ValueError if the face draws nothing."""
    base = int(2 * font.size)
    image = Image.new("L", (WIDTH, 2 * base))
    ImageDraw.Draw(image).text((int(font.size / 4), base), text, fill=255, font=font, anchor="ls")
    ink = np.asarray(image)
    if not ink.any():
        raise ValueError(f"the face {font.getname()[0]} draws nothing for '{text}': leave it out")
    _, top, _, height = cv2.boundingRect(ink)
    ink = ink[top : top + height, : int(np.flatnonzero(ink.any(axis=0))[-1]) + 2]
    return Line(ink, base - top, *_breaks(np.max(ink, axis=0) == 0, font.size))


def _breaks(empty: Bool[np.ndarray, " n"], size: float) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " k"]]:
    """Find the middles of the empty columns between letters, and those where there are so many that it is a space."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], empty, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    middles, spaces = (starts + stops) // 2, stops - starts >= size / 5
    # Chinese and Japanese have no spaces: there a few characters are taken for a word.
    return middles, middles[spaces] if spaces.sum() > 1 else middles[::3]
