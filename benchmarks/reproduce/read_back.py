"""How much of the text on pictures a recogniser still reads: the normalised edit distance of the text sets."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from benchmarks.reproduce.sets import Line
from benchmarks.text import Reader, edit_distance, load_rapidocr

Pixels = UInt8[np.ndarray, "_ _ 3"]


def agreement(written: str, read: str) -> float:
    """Give 1 less the edit distance over the longer text's length (NED of both sets): 1 is equal, 0 all wrong."""
    longer = max(len(written), len(read))
    return 1 - edit_distance(written, read) / longer if longer else 1.0


def load_page_reader() -> Reader:
    """Load RapidOCR whole, which finds lines and reads them; the texts are joined in its order, without spaces between.

    Raises:
        ImportError: the optional packages are not installed.
    """
    engine = load_rapidocr({})

    def read(page: Pixels) -> str:
        texts = engine(np.ascontiguousarray(page[:, :, ::-1]), use_det=True, use_cls=False, use_rec=True).txts
        return "".join(texts or ())

    return read


def straighten(picture: Pixels, line: Line) -> Pixels:
    """Cut a line out of a picture, its box made a rectangle."""
    sides = np.linalg.norm(np.roll(line.corners, -1, axis=0) - line.corners, axis=1)
    width, height = (max(round(float(max(sides[i], sides[i + 2]))), 1) for i in (0, 1))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(line.corners.astype(np.float32), target)
    return cv2.warpPerspective(picture, matrix, (width, height), flags=cv2.INTER_CUBIC)


def read_lines(picture: Pixels, lines: Sequence[Line], reader: Reader) -> list[tuple[str, str]]:
    """Read the known lines; give what is written and what was read, in small letters and without spaces."""
    return [(_plain(line.text), _plain(reader(straighten(picture, line)))) for line in lines]


def _plain(text: str) -> str:
    return "".join(text.lower().split())
