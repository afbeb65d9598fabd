"""Text and pages out of the PDFs of Debian's installation guide, in 18 languages."""

import gzip
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pypdfium2
from jaxtyping import UInt8

from tools.fetch.registry import copy_licences, download, move_whole
from tools.fetch.writing import UNSPACED

PACKAGE = "installation-guide-amd64"
NOT_RASTERISED = ("ko",)  # set in Noto Sans and Noto Serif CJK, faces of the benchmarks
LEFT_OUT = 16, 10  # pages: title and contents before the text, the licence in English behind it
HELD_OUT = 0.45, 0.55  # the part of the pages, as a fraction
DPI = (96, 130, 170, 220)
TILE = 512
PAGES, TILES = 24, 4  # pages of each document, and tiles of each page
LEAST_INK = 8  # of 255 in the mean of a tile
RAREST = 8  # characters of an alphabet that are met less often are left out with their words

Tiles = UInt8[np.ndarray, "n side side"]
# Ligatures, and signs that many faces lack.
_PLAIN = str.maketrans(
    {"ﬁ": "fi", "ﬂ": "fl", "ﬀ": "ff", "ﬃ": "ffi", "ﬄ": "ffl", "\xad": "", "\ufffe": "", "…": "...", "•": "", "〜": ""}
    | dict.fromkeys("\u2011\u2013\u2014", "-")
    | dict.fromkeys("\u2018\u2019", "'")
    | dict.fromkeys("“”„", '"')
)
_CODE = set("_{}[]\\|^~<>#=;*¹²")  # words with it are left out: figures and code have them


def fetch_documents(destination: Path) -> list[Path]:
    """Fetch the PDFs if there is no folder of them yet; returns them.

    Raises:
        RuntimeError: The package could not be had.
    """
    target = destination / "documents"
    if not target.exists():
        print(f"{PACKAGE} (apt)", flush=True)
        with tempfile.TemporaryDirectory(dir=destination, prefix=".download-") as folder:
            root, _ = download("apt", PACKAGE, Path(folder))
            copy_licences(root, PACKAGE, "apt", root, destination / "licences" / PACKAGE)
            made = Path(folder, "documents")
            made.mkdir()
            for file in sorted(root.rglob("install.*.pdf.gz")):
                (made / f"{file.name.split('.')[1]}.pdf").write_bytes(gzip.decompress(file.read_bytes()))
            move_whole(made, target)
    return sorted(target.glob("*.pdf"))


def texts(file: Path) -> tuple[str, str]:
    """Give the document's text to train on, and that of the pages held out: clean words, one line a page."""
    document = pypdfium2.PdfDocument(file)
    split = {number: held_out for held_out in (False, True) for number in numbers(document, held_out)}
    pages = [_cleaned(document[number].get_textpage().get_text_range()) for number in split]
    ideographs = file.stem.split("_")[0] in (*UNSPACED, "ko")
    counts = Counter("".join(pages))
    frequent = {c for c, count in counts.items() if count >= RAREST or (ideographs and count > 1 and ord(c) > 0x2E80)}
    pages = [" ".join(word for word in page.split() if set(word) <= frequent) for page in pages]
    train, held_out = (
        [page for page, held in zip(pages, split.values(), strict=True) if held is h] for h in (False, True)
    )
    return "\n".join(train) + "\n", "\n".join(held_out) + "\n"


def numbers(document: pypdfium2.PdfDocument, held_out: bool) -> list[int]:
    """Give the numbers of the pages to train on, or of those held out."""
    pages = range(LEFT_OUT[0], len(document) - LEFT_OUT[1])
    first, last = (round(len(pages) * part) for part in HELD_OUT)
    return [*pages[first:last]] if held_out else [*pages[:first], *pages[last:]]


def _cleaned(text: str) -> str:
    """Composed letters, no ligatures, and no words with signs in them that faces lack."""
    text = unicodedata.normalize("NFC", text.translate(_PLAIN))
    known = (word for word in text.split() if not _CODE & set(word))
    return " ".join(word for word in known if all(unicodedata.category(c)[0] in "LNP" for c in word))


def rasterise(file: Path) -> Iterator[Tiles]:
    """Tiles of ink, page by page, at several sizes; the same every time. Held out pages are not among them."""
    if file.stem in NOT_RASTERISED:
        return
    document = pypdfium2.PdfDocument(file)
    pages = numbers(document, held_out=False)
    for number, at in enumerate(np.linspace(0, len(pages) - 1, PAGES).astype(int)):
        scale = DPI[number % len(DPI)] / 72
        ink = 255 - document[pages[at]].render(scale=scale, grayscale=True).to_numpy().squeeze()
        yield _tiles(ink, np.random.default_rng(pages[at]))


def _tiles(ink: UInt8[np.ndarray, "h w"], generator: np.random.Generator) -> Tiles:
    """Choose some of those that have ink."""
    height, width = ink.shape
    corners = [(top, left) for top in range(0, height - TILE, TILE // 2) for left in range(0, width - TILE, TILE // 2)]
    tiles = [ink[top : top + TILE, left : left + TILE] for top, left in generator.permutation(corners)]
    return np.array([tile for tile in tiles if tile.mean() >= LEAST_INK][:TILES], np.uint8).reshape(-1, TILE, TILE)
