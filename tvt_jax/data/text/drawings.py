"""What has no text: charts, thin lines, hatching, flat shapes and gradients."""

import cv2
import numpy as np

from tvt_jax.data.text.ink import Colour, Ink, Picture, filled, paint
from tvt_jax.data.text.studio import Studio, draw_colour, draw_colours, draw_grey, luma, pick

_SHIFT = 4  # OpenCV's drawing takes sixteenths of a pixel
_FINE = 1 << _SHIFT


def chart(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Axes with figures, a grid by chance, and curves, bars or points."""
    paper, ink = draw_colours(generator)
    picture = filled((side, side), paper)
    left, bottom = int(generator.integers(20, 60)), side - int(generator.integers(16, 50))
    step = int(generator.integers(16, 60))
    if generator.random() < 0.5:
        faint = tuple(int(0.8 * a + 0.2 * b) for a, b in zip(paper, ink, strict=True))
        for at in range(0, side, step):
            cv2.line(picture, (left, bottom - at), (side, bottom - at), faint)
            cv2.line(picture, (left + at, 0), (left + at, bottom), faint)
    kind, colours = generator.integers(3), [_distinct(paper, generator) for _ in range(4)]
    for colour in colours[: int(generator.integers(1, 5))]:
        if kind == 0:
            _curve(picture, generator, colour, left, bottom)
        elif kind == 1:
            _bars(picture, generator, colour, left, bottom)
        else:
            for x, y in generator.uniform((left, 0), (side, bottom), (12, 2)):
                cv2.circle(
                    picture, _fine(x, y), 3 * _FINE, colour, int(generator.integers(-1, 2)) or 1, cv2.LINE_AA, _SHIFT
                )
    cv2.line(picture, (left, 0), (left, bottom), ink)
    cv2.line(picture, (left, bottom), (side, bottom), ink)
    face = studio.face("figures", generator)
    size = face.size(generator, 9, 14)
    for at in range(0, side, max(step, 3 * size)):
        mark = face.line(size, generator).word(3 * size, generator)
        paint(picture, mark, ink, bottom - at - size // 2, left - mark.shape[1] - 4)
        paint(picture, mark, ink, bottom + 5, left + at)
    return picture


def _curve(picture: Picture, generator: np.random.Generator, colour: Colour, left: int, bottom: int) -> None:
    """Draw a walk of small or large steps."""
    xs = np.arange(left, len(picture) + 8, float(generator.integers(2, 14)))
    walk = np.cumsum(generator.normal(0, generator.uniform(1, 12), len(xs))) + generator.uniform(0.2, 0.8) * bottom
    points = np.rint(np.stack([xs, np.clip(walk, 2, bottom - 2)], -1) * _FINE).astype(np.int32)
    cv2.polylines(picture, [points], False, colour, int(generator.integers(1, 4)), cv2.LINE_AA, _SHIFT)


def _bars(picture: Picture, generator: np.random.Generator, colour: Colour, left: int, bottom: int) -> None:
    step = int(generator.integers(8, 40))
    for x in range(left + int(generator.integers(1, step)), len(picture), step):
        top = int(generator.integers(4, bottom))
        cv2.rectangle(picture, (x, top), (x + step // 3, bottom), colour, -1)


def lines(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Thin lines, circles and crossing polygons in several colours, one to four pixels wide."""
    del studio
    paper = draw_colours(generator)[0]
    picture = filled((side, side), paper)
    for _ in range(int(generator.integers(3, 30))):
        colour, width = _distinct(paper, generator), int(generator.integers(1, 5))
        x, y, x2, y2 = generator.uniform(-0.1 * side, 1.1 * side, 4)
        kind = generator.random()
        if kind < 0.6:
            cv2.line(picture, _fine(x, y), _fine(x2, y2), colour, width, cv2.LINE_AA, _SHIFT)
        elif kind < 0.8:
            radius = int(generator.uniform(3, side / 2) * _FINE)
            cv2.circle(picture, _fine(x, y), radius, colour, width, cv2.LINE_AA, _SHIFT)
        else:
            cv2.rectangle(picture, (int(x), int(y)), (int(x2), int(y2)), colour, width)
    return picture


def hatching(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Patches of parallel lines with sharp edges, never as nearly upright as the benchmarks' line pairs."""
    del studio
    paper, ink = draw_colours(generator)
    picture = filled((side, side), paper)
    for _ in range(int(generator.integers(1, 5))):
        angle = np.radians(generator.uniform(10, 80) + pick((0, 90), generator))
        period = generator.uniform(4, 20)
        patch = _ruled(side, angle, period, period * generator.uniform(0.2, 0.6))
        left, top, right, bottom = _box(side, generator)
        paint(picture, np.ascontiguousarray(patch[top:bottom, left:right]), ink, top, left)
    return picture


def _ruled(side: int, angle: float, period: float, width: float) -> Ink:
    """Parallel stripes, their edges a pixel wide."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    phase = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) % np.float32(period)
    inside = width / 2 - np.abs(phase - period / 2) + 0.5
    return np.rint(np.clip(inside, 0, 1) * 255).astype(np.uint8)


def shapes(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Flat shapes on a flat ground or on paper."""
    picture = studio.textured(filled((side, side), draw_colour(generator)), generator)
    for _ in range(int(generator.integers(1, 9))):
        colour = draw_colour(generator) if generator.random() < 0.8 else draw_grey(0, 256, generator)
        if generator.random() < 0.5:
            left, top, right, bottom = _box(side, generator)
            cv2.rectangle(picture, (left, top), (right, bottom), colour, -1)
        else:
            corners = np.rint(generator.uniform(-0.1 * side, 1.1 * side, (generator.integers(3, 6), 2)) * _FINE)
            cv2.fillPoly(picture, [cv2.convexHull(corners.astype(np.int32))], colour, cv2.LINE_AA, _SHIFT)
    return picture


def gradient(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """From one colour to another in any direction, with an edge across by chance; a single colour now and then."""
    del studio
    one, other = draw_colour(generator), draw_colour(generator)
    if generator.random() < 0.25:
        return filled((side, side), one)
    across, down = generator.uniform(-1, 1, 2)
    slope = np.add.outer(down * np.arange(side), across * np.arange(side)).astype(np.float32)
    cover = ((slope - slope.min()) / max(np.ptp(slope), 1))[..., None]
    mixed = cover * np.subtract(other, one, dtype=np.float32) + np.array(one, np.float32)
    picture = np.rint(mixed).astype(np.uint8)
    if generator.random() < 0.5:
        left, top, right, bottom = _box(side, generator)
        picture[top:bottom, left:right] = picture[top:bottom, left:right][::-1, ::-1]
    return picture


def _box(side: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a rectangle inside, a quarter to all of each side."""
    width, height = (int(x) for x in generator.uniform(0.25, 1, 2) * side)
    left, top = int(generator.integers(side - width + 1)), int(generator.integers(side - height + 1))
    return left, top, left + width, top + height


def _distinct(paper: Colour, generator: np.random.Generator) -> Colour:
    """Draw a colour that can be told from the paper."""
    while True:
        colour = draw_colour(generator)
        if abs(luma(colour) - luma(paper)) > 30:
            return colour


def _fine(x: float, y: float) -> tuple[int, int]:
    return round(x * _FINE), round(y * _FINE)
