"""Lines of text as ink, how much of each pixel is covered, from 0 to 255; and how ink is put onto pictures."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Int, UInt8

Ink = UInt8[np.ndarray, "_ _"]
Picture = UInt8[np.ndarray, "_ _ 3"]
Colour = tuple[int, int, int]


class Line(NamedTuple):
    """A line of text.

    Attributes:
        ink: Without empty rows above and below.
        above: Rows above the base line.
        letters: Columns between letters, increasing.
        words: Those of them that are between words.
    """

    ink: Ink
    above: int
    letters: Int[np.ndarray, " n"]
    words: Int[np.ndarray, " m"]

    def cut(self, width: int, generator: np.random.Generator) -> Ink:
        """Cut a part of at most that width, from a letter's beginning to a letter's end where that can be."""
        width = max(width, 1)
        last = int(np.searchsorted(self.letters, max(self.ink.shape[1] - width, 1)))
        start = int(self.letters[generator.integers(last)]) if last else 0
        stops = self.letters[: np.searchsorted(self.letters, start + width, side="right")]
        stop = int(stops[-1]) if len(stops) and stops[-1] > start else start + width
        return self.ink[:, start:stop]

    def word(self, most: int, generator: np.random.Generator) -> Ink:
        """Draw a word, cut off at `most` pixels, without empty rows and columns around it."""
        if len(self.words) < 2:
            return trimmed(self.cut(most, generator))
        number = int(generator.integers(len(self.words) - 1))
        start = int(self.words[number])
        return trimmed(self.ink[:, start : min(int(self.words[number + 1]), start + most)])


def trimmed(ink: Ink) -> Ink:
    """Without the empty rows and columns around it; one pixel if there is no ink."""
    left, top, width, height = cv2.boundingRect(ink)
    return ink[top : top + height, left : left + width] if width else ink[:1, :1]


def lay(ink: Ink, sheet: Ink, top: int, left: int) -> None:
    """Put ink onto a sheet; what reaches over its border is cut off."""
    part = ink[max(0, -top) : max(0, len(sheet) - top), max(0, -left) : max(0, sheet.shape[1] - left)]
    if part.size:
        top, left = max(0, top), max(0, left)
        target = sheet[top : top + part.shape[0], left : left + part.shape[1]]
        np.maximum(target, part, out=target)


def paint(picture: Picture, ink: Ink, colour: Colour, top: int = 0, left: int = 0) -> None:
    """Cover a picture with a colour where there is ink; what reaches over its border is cut off."""
    height, width = picture.shape[:2]
    part = ink[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    if part.size:
        top, left = max(0, top), max(0, left)
        target = picture[top : top + part.shape[0], left : left + part.shape[1]]
        cover = cv2.merge([part, part, part])
        kept = cv2.multiply(target, cv2.bitwise_not(cover), scale=1 / 255)
        target[:] = cv2.add(kept, cv2.multiply(filled(part.shape, colour), cover, scale=1 / 255))


def filled(shape: tuple[int, int], colour: Colour) -> Picture:
    """Draw a picture of that height and width in one colour."""
    return cv2.merge([np.full(shape, value, np.uint8) for value in colour])
