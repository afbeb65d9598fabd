"""Pages, signs, labels, receipts and screens: each is drawn flat, from the front."""

import cv2
import numpy as np

from tvt_jax.data.text.ink import Colour, Ink, Picture, filled, lay, paint
from tvt_jax.data.text.studio import Face, Studio, draw_colour, draw_colours, draw_grey, luma, pick

Box = tuple[int, int, int, int]  # left, top, right, bottom


def page(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Draw running text in one or two columns, with headings and gaps between paragraphs."""
    paper, ink = draw_colours(generator)
    sheet = np.zeros((side, side), np.uint8)
    script = studio.script(generator)
    face = studio.face(script, generator)
    size = face.size(generator, side // 32)
    columns = 2 if size < side / 20 and generator.random() < 0.2 else 1
    margin = int(generator.integers(-size, min(2 * size, side // 3)))
    width = (side - margin) // columns
    for left in range(margin, side - size, width):
        _fill(studio, generator, sheet, (left, width - size if columns > 1 else side - left), script, face, size)
    return _printed(studio, generator, sheet, paper, ink)


def _fill(
    studio: Studio,
    generator: np.random.Generator,
    sheet: Ink,
    column: tuple[int, int],
    script: str,
    face: Face,
    size: int,
) -> None:
    """One column, left border and width, from top to bottom."""
    left, width = column
    leading = size * generator.uniform(1.15, 1.7)
    mixed = generator.random() < 0.15
    base = float(generator.integers(-size, min(2 * size, len(sheet) // 2)))
    while base < len(sheet) + size:
        kind = generator.random()
        if mixed or kind < 0.04:
            face = studio.face(script, generator)
            size = face.size(generator, len(sheet) // 32) if mixed else size
            leading = max(leading, 1.15 * size)
        line = face.line(size, generator)
        part = width if kind < 0.85 else int(width * generator.uniform(0.2, 0.9))
        lay(line.cut(part, generator), sheet, int(base) - line.above, left)
        base += leading * (1.6 if kind > 0.93 else 1)


def rasterised(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Draw a piece of a real page, most often black on white; a page drawn here where there is none or no ink."""
    sheet = studio.page(side, generator)
    if sheet is None or not sheet.any():
        return page(studio, generator, side)
    paper, ink = ((255,) * 3, (0,) * 3) if generator.random() < 0.5 else draw_colours(generator)
    return _printed(studio, generator, sheet, paper, ink)


def _printed(studio: Studio, generator: np.random.Generator, sheet: Ink, paper: Colour, ink: Colour) -> Picture:
    """Ink on paper, one colour on another."""
    picture = filled(sheet.shape, paper)
    paint(picture, sheet, ink)
    return studio.textured(picture, generator)


def sign(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Draw a few large words on a plate before a photo, or on the photo itself."""
    paper, ink = draw_colours(generator)
    photo = studio.background(side, generator) if generator.random() < 0.7 else None
    picture = studio.textured(filled((side, side), draw_colour(generator)), generator) if photo is None else photo
    if photo is not None and generator.random() < 0.35:
        ink = (255,) * 3 if photo.mean() < 128 else draw_grey(0, 50, generator)
        box = (0, 0, side, side)
    else:
        box = _plate(picture, generator, paper, ink)
    _letter(studio, generator, picture, box, ink)
    return picture


def _plate(picture: Picture, generator: np.random.Generator, paper: Colour, ink: Colour) -> Box:
    """Draw a board with round corners, and a rim by chance; returns where it is."""
    side = len(picture)
    left, top = (int(x) for x in generator.uniform(-0.15, 0.25, 2) * side)
    right, bottom = (int(x) for x in generator.uniform(0.75, 1.15, 2) * side)
    radius = int(generator.integers(0, side // 10))
    paint(picture, _rounded(side, (left, top, right, bottom), radius), paper)
    if generator.random() < 0.4:
        rim, inset = int(generator.integers(1, 6)), int(generator.integers(3, 10))
        outer, inner = inset, inset + rim
        paint(picture, _rounded(side, (left + outer, top + outer, right - outer, bottom - outer), radius), ink)
        within = (left + inner, top + inner, right - inner, bottom - inner)
        paint(picture, _rounded(side, within, max(0, radius - rim)), paper)
    return left, top, right, bottom


def _rounded(side: int, box: Box, radius: int) -> Ink:
    sheet = np.zeros((side, side), np.uint8)
    left, top, right, bottom = box
    cv2.rectangle(sheet, (left + radius, top), (right - radius - 1, bottom - 1), 255, -1)
    cv2.rectangle(sheet, (left, top + radius), (right - 1, bottom - radius - 1), 255, -1)
    for x in (left + radius, right - radius - 1):
        for y in (top + radius, bottom - radius - 1):
            cv2.circle(sheet, (x, y), radius, 255, -1, cv2.LINE_AA)
    return sheet


def _letter(studio: Studio, generator: np.random.Generator, picture: Picture, box: Box, ink: Colour) -> None:
    """Words one below the other in a box, centred or flush left, as large as was drawn and the box allows."""
    left, top, right, bottom = box
    side = len(picture)
    face = studio.face(studio.script(generator), generator)
    centred = generator.random() < 0.6
    y = top + int(generator.integers(8, 40))
    while y < min(bottom, side) - 16:
        size = face.size(generator, side // 18, max(side // 18, bottom - y))
        word = face.line(size, generator).word(right - left - 24, generator)
        if word.shape[0] > bottom - y - 6:
            break
        x = (left + right - word.shape[1]) // 2 if centred else left + 16
        paint(picture, word, ink, y, max(x, left + 8))
        y += word.shape[0] + int(generator.integers(6, 30))
        if generator.random() < 0.2:
            face = studio.face(studio.script(generator), generator)


def label(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Draw a price or name tag: a band of colour, a large figure, small print and a bar code."""
    paper, ink = draw_colours(generator)
    picture = studio.textured(filled((side, side), paper), generator)
    figures, small = (studio.face(script, generator) for script in ("figures", studio.script(generator)))
    band = int(side * generator.uniform(0.15, 0.35))
    cv2.rectangle(picture, (0, 0), (side, band), ink, -1)
    _letter(studio, generator, picture, (0, -20, side, band), paper)
    figure = figures.line(figures.size(generator, 30), generator).word(side, generator)
    paint(picture, figure, ink, band + 10, int(generator.integers(4, side // 3)))
    size = small.size(generator, side // 32, side // 16)
    y = band + figure.shape[0] + 18 + size
    while y < side * 0.8:
        line = small.line(size, generator)
        paint(picture, line.cut(side - 16, generator), ink, y - line.above, 8)
        y += int(1.3 * size) + 1
    if luma(paper) > luma(ink):
        _bar_code(generator, picture, ink, y + 6)
    return picture


def _bar_code(generator: np.random.Generator, picture: Picture, ink: Colour, top: int) -> None:
    """Draw a bar code from there to near the lower border."""
    widths = generator.integers(1, 4, 90) * int(generator.integers(1, 4))
    edges = 12 + np.cumsum(widths)
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        picture[top : len(picture) - 8, start : min(stop, len(picture) - 12)] = ink


def receipt(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Items on the left, figures on the right, rules between, grey on thermal paper."""
    paper, ink = draw_grey(215, 256, generator), draw_grey(20, 130, generator)
    sheet = np.zeros((side, side), np.uint8)
    items, figures = (studio.face(script, generator) for script in (studio.script(generator), "figures"))
    size = items.size(generator, side // 26, side // 9)
    margin = int(generator.integers(-size, 3 * size))
    base = int(generator.integers(0, 3 * size))
    while base < side + size:
        if generator.random() < 0.12:
            rule = np.full((max(1, size // 12), max(1, side - 2 * margin)), 255, np.uint8)
            lay(rule, sheet, base - size // 2, margin)
        else:
            price, item = figures.line(size, generator), items.line(size, generator)
            figure = price.word(side // 2, generator)
            lay(figure, sheet, base - price.above, side - margin - figure.shape[1] - 6)
            width = int((side - 2 * margin - figure.shape[1] - size) * generator.uniform(0.4, 1))
            lay(item.cut(width, generator), sheet, base - item.above, margin)
        base += int(1.35 * size)
    return _printed(studio, generator, sheet, paper, ink)


def screen(studio: Studio, generator: np.random.Generator, side: int) -> Picture:
    """Draw a program's window: flat areas, a bar, buttons, and small text or coloured code."""
    dark = generator.random() < 0.4
    paper, ink = draw_grey(10, 60, generator), draw_grey(190, 256, generator)
    paper, ink = (paper, ink) if dark else (ink, paper)
    accents = [draw_colour(generator) for _ in range(4)]
    accents = [accent if abs(luma(accent) - luma(paper)) > 60 else ink for accent in accents]
    picture = filled((side, side), paper)
    code = generator.random() < 0.4
    face = studio.face("code" if code else studio.script(generator), generator)
    size = face.size(generator, 10, 23)
    bar, aside = int(generator.integers(0, 40)), int(generator.integers(0, side // 3)) * int(generator.integers(2))
    cv2.rectangle(picture, (0, 0), (aside, side), [int(0.9 * value) for value in paper], -1)
    base = bar + 6 + size
    while base < side + size:
        left = aside + 8 + 2 * size * int(generator.integers(3)) * code
        line = face.line(size, generator)
        words = line.cut(int((side - left) * generator.uniform(0.3, 1)), generator)
        _colour(picture, generator, words, [ink, *accents] if code else [ink], base - line.above, left)
        base += int(1.4 * size)
    if bar > 12:
        cv2.rectangle(picture, (0, 0), (side, bar), accents[0], -1)
        title = face.line(size, generator).cut(side // 2, generator)
        paint(picture, title, _on(accents[0]), (bar - title.shape[0]) // 2, 10)
    for _ in range(int(generator.integers(3))):
        _button(studio, generator, picture, size, pick(accents, generator))
    return picture


def _colour(
    picture: Picture, generator: np.random.Generator, words: Ink, colours: list[Colour], top: int, left: int
) -> None:
    """Draw a line whose words have colours, changed between letters."""
    gaps = np.flatnonzero(~words.any(axis=0)) if len(colours) > 1 else np.array([])
    cuts = sorted(gaps[generator.integers(len(gaps), size=3)].tolist()) if len(gaps) else []
    for start, stop in zip([0, *cuts], [*cuts, words.shape[1]], strict=True):
        paint(picture, words[:, start:stop], pick(colours, generator), top, left + start)


def _button(studio: Studio, generator: np.random.Generator, picture: Picture, size: int, colour: Colour) -> None:
    """Draw a filled rectangle with a figure in it."""
    word = studio.face("figures", generator).line(size, generator).word(len(picture) // 2, generator)
    top, left = (int(x) for x in generator.integers(0, len(picture) - 2 * size, 2))
    bottom, right = top + word.shape[0] + size, left + word.shape[1] + 2 * size
    cv2.rectangle(picture, (left, top), (right, bottom), colour, -1)
    paint(picture, word, _on(colour), top + size // 2, left + size)


def _on(colour: Colour) -> Colour:
    """White or black, whichever can be read on a colour."""
    return (255,) * 3 if luma(colour) < 140 else (0,) * 3
