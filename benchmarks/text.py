"""How much small text survives: known lines are rendered, read back line by line, and compared with what was written.

Recognition runs on the known boxes. With a text detector in between, a clean page already loses several per cent of its
characters, and the figure would measure the detector.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

Reader = Callable[[UInt8[np.ndarray, "h w 3"]], str]
Colour = tuple[int, int, int]
Word = Callable[[np.random.Generator], str]

_WORDS = (
    "about after again always before between bridge bright by camera castle change clear close cloud corner country "
    "detail distance early east edge every family field figure finger flower forest garden glass gold green ground "
    "harbour head heavy high history house image island join kitchen knife large leaf letter light line little "
    "machine market measure middle morning mountain narrow needle night north number ocean open orange paper pattern "
    "people picture place plane point public quarter question quick quiet river road rough school section shadow "
    "sharp shop silver simple small south square station stone street summer table thin through tower train turn "
    "under value village voice wall water weather west white window winter wood work yellow young zebra zone"
).split()
_FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "STIXGeneralBol")
_MARGIN = 3  # pixels around the ink that belong to a line's box
_CONTRAST = 110  # smallest luma difference between ink and paper


@dataclass(frozen=True, kw_only=True)
class TextLine:
    """A line on a page.

    Attributes:
        text: what is written.
        box: left, top, right, bottom in pixels, with a margin around the ink; right and bottom are exclusive.
        size: font size in pixels (the em; a lower-case x is about half of it).
    """

    text: str
    box: tuple[int, int, int, int]
    size: int


@dataclass(frozen=True, kw_only=True)
class TextPage:
    """A rendered page and the lines on it."""

    image: UInt8[np.ndarray, "h w 3"]
    lines: tuple[TextLine, ...]


def bundled_fonts() -> list[Path]:
    """List sans, bold, serif and monospaced faces that matplotlib carries, the same files on every machine.

    Raises:
        ImportError: matplotlib is not installed.
    """
    folder = _folder_of("matplotlib", "the fonts of the text benchmark") / "mpl-data" / "fonts" / "ttf"
    return [folder / f"{name}.ttf" for name in _FONTS]


def chinese_fonts() -> list[Path]:
    """List Noto Sans and Noto Serif for simplified Chinese, out of a package that holds nothing else.

    Raises:
        ImportError: it is not installed.
    """
    folder = _folder_of("pylopdf-fonts-zh-cn", "the Chinese fonts")
    return [folder / f"Noto{face}SC-Regular.otf" for face in ("Sans", "Serif")]


def _folder_of(distribution: str, what: str) -> Path:
    """Find the folder of a package that is used for its files and never imported."""
    package = importlib.util.find_spec(distribution.replace("-", "_"))
    if package is None or not package.submodule_search_locations:
        raise ImportError(f"{what} come with {distribution}: pip install 'tvt-jax[bench]'")
    return Path(package.submodule_search_locations[0])


def render_page(
    generator: np.random.Generator,
    fonts: Sequence[Path],
    *,
    height: int = 256,
    width: int = 256,
    sizes: tuple[int, int] = (10, 24),
    colours: tuple[Colour, Colour] | None = None,
    word: Word | None = None,
) -> TextPage:
    """Fill a page with lines of random words.

    Every line draws its own font, and its size from `sizes` (both ends included).

    Args:
        generator: draws everything.
        fonts: files to draw from.
        height: of the page, in pixels.
        width: of the page, in pixels.
        sizes: smallest and largest font size in pixels.
        colours: paper and ink; without them dark on light, light on dark and coloured pages are equally likely.
        word: draws what is written, English words and numbers if left out.

    Raises:
        ValueError: the page has no room for a single line.
    """
    paper, ink = colours or _draw_colours(generator)
    page = Image.new("RGB", (width, height), paper)
    canvas = ImageDraw.Draw(page)
    lines: list[TextLine] = []
    top = _MARGIN
    while True:
        size = int(generator.integers(sizes[0], sizes[1] + 1))
        font = ImageFont.truetype(fonts[int(generator.integers(len(fonts)))], size)
        text = _draw_text(generator, font, width - 4 * _MARGIN, word or _draw_word)
        left = 2 * _MARGIN
        ink_box = canvas.textbbox((left, top), text, font=font, anchor="la")
        box = (left - _MARGIN, int(ink_box[1]) - _MARGIN, int(ink_box[2]) + _MARGIN, int(ink_box[3]) + _MARGIN)
        if box[3] > height:
            break
        if text:
            canvas.text((left, top), text, font=font, fill=ink, anchor="la")
            lines.append(TextLine(text=text, box=box, size=size))
        top = box[3] + _MARGIN
    if not lines:
        raise ValueError(f"a page of {height}x{width} pixels has no room for a line of {sizes[1]} px")
    return TextPage(image=np.asarray(page), lines=tuple(lines))


def load_rapidocr(settings: Mapping[str, Any]) -> Any:
    """Load RapidOCR, which says nothing but errors.

    Raises:
        ImportError: the optional packages are not installed.
    """
    try:
        rapidocr = importlib.import_module("rapidocr")
    except ImportError as error:
        raise ImportError("reading text needs rapidocr and onnxruntime: pip install 'tvt-jax[bench]'") from error
    return rapidocr.RapidOCR(params={"Global.log_level": "error", **settings})


def load_reader() -> Reader:
    """Load RapidOCR's recogniser for one upright line, RGB; its model comes with the package.

    Raises:
        ImportError: the optional packages are not installed.
    """
    engine = load_rapidocr(
        {
            "Global.use_preprocess_img": False,
            "Global.text_score": 0.0,
            "EngineConfig.onnxruntime.intra_op_num_threads": 2,
        }
    )

    def read(line: UInt8[np.ndarray, "h w 3"]) -> str:
        bgr = np.ascontiguousarray(line[:, :, ::-1])
        texts = engine(bgr, use_det=False, use_cls=False, use_rec=True).txts
        return texts[0] if texts else ""

    return read


def read_page(image: UInt8[np.ndarray, "h w 3"], lines: Sequence[TextLine], reader: Reader) -> list[str]:
    """Read the given lines out of any picture of their page that has the page's size."""
    return [reader(image[top:bottom, left:right]) for left, top, right, bottom in (line.box for line in lines)]


def edit_distance(written: str, read: str) -> int:
    """Count the fewest insertions, deletions and substitutions that turn one into the other (Levenshtein)."""
    row = list(range(len(read) + 1))
    for i, expected in enumerate(written, start=1):
        diagonal, row[0] = row[0], i
        for j, found in enumerate(read, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != found))
    return row[-1]


def common_subsequence(written: str, read: str) -> int:
    """Return the length of the longest sequence of characters that both have in this order, others between them."""
    row = [0] * (len(read) + 1)
    for expected in written:
        diagonal = 0
        for j, found in enumerate(read, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if expected == found else max(row[j], row[j - 1])
    return row[-1]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the characters of a line, white space left out.

    Attributes:
        written: characters that stand there.
        plain: edits, which made-up text can raise above `written`.
        capped: edits, at most `written`: a line that is lost is lost once, however much is made up in its place.
        recalled: characters of it that were read, in their order: the longest common subsequence.
    """

    written: int
    plain: int
    capped: int
    recalled: int


def count_errors(written: str, read: str) -> Counts:
    """Count edits and recalled characters of a line."""
    written, read = "".join(written.split()), "".join(read.split())
    edits = edit_distance(written, read)
    recalled = common_subsequence(written, read)
    return Counts(written=len(written), plain=edits, capped=min(edits, len(written)), recalled=recalled)


def character_error_rate(written: Sequence[str], read: Sequence[str]) -> float:
    """Divide the edits of all lines by the characters written, without white space; above 1 where much is made up.

    Raises:
        ValueError: the sequences differ in length, or nothing was written.
    """
    counts = [count_errors(*pair) for pair in zip(written, read, strict=True)]
    characters = sum(count.written for count in counts)
    if characters == 0:
        raise ValueError("no characters were written: a character error rate needs at least one")
    return sum(count.plain for count in counts) / characters


def _draw_text(generator: np.random.Generator, font: ImageFont.FreeTypeFont, width: int, word: Word) -> str:
    """Draw words until the next would leave the line."""
    text = ""
    while True:
        longer = f"{text} {word(generator)}".strip()
        if font.getlength(longer) > width:
            return text
        text = longer


def _draw_word(generator: np.random.Generator) -> str:
    kind = generator.random()
    if kind < 0.25:
        return str(generator.integers(10, 10_000))
    if kind < 0.35:
        return f"{generator.integers(1, 100)}.{generator.integers(10, 100)}"
    word = _WORDS[int(generator.integers(len(_WORDS)))]
    return word.capitalize() if kind > 0.85 else word


def _draw_colours(generator: np.random.Generator) -> tuple[Colour, Colour]:
    """Draw paper and ink, far enough apart in luma to be read."""
    dark, light = int(generator.integers(0, 50)), int(generator.integers(205, 256))
    scheme = generator.integers(3)
    if scheme == 0:
        return (light,) * 3, (dark,) * 3
    if scheme == 1:
        return (dark,) * 3, (light,) * 3
    while True:
        red, green, blue, *ink = (int(value) for value in generator.integers(0, 256, 6))
        if abs(np.dot(np.subtract((red, green, blue), ink), (0.299, 0.587, 0.114))) > _CONTRAST:
            return (red, green, blue), (ink[0], ink[1], ink[2])
