"""Fetch fonts, texts and pages to train on from Debian's packages, and make of them a folder to train on.

    python tools/fetch_text.py DIR --photos PHOTOS

writes DIR/text.json, which `DataConfig(path=DIR)` reads, and the arrays beside it: lines of text as ink, pages, and
pieces of the photos of PHOTOS/train; DIR/licences/PACKAGE/*; and DIR/held_out/*.png: pictures with other faces and
other texts, before photos of PHOTOS/held_out, to choose models by. No face or word of the benchmarks' pages is
used (tvt_jax/data/text/excluded.py). Run again to go on after an interruption: packages are not fetched twice.

Needs `pip install "tvt-jax[tools]"`, `apt-get` and `dpkg-deb` (run `apt-get update` before); about a gigabyte of disk.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.fetch import documents, fonts
from tools.fetch.lines import draw_lines
from tools.fetch.writing import CHARACTERS, Writing, characters_by_chance
from tvt_jax.data.sources import list_images, read_image
from tvt_jax.data.text.manifest import Manifest, save
from tvt_jax.data.text.source import TextSource

BACKGROUND = 256  # pixels of the side
BACKGROUNDS = 800  # at most
HELD_OUT = 96  # pictures


def fetch(destination: Path, photos: Path | None) -> Manifest:
    """Fetch everything into `destination`; returns the manifest to train with.

    Raises:
        RuntimeError: Some packages could not be had.
        FileNotFoundError: There is no such folder of photos.
    """
    destination.mkdir(parents=True, exist_ok=True)
    if failures := fonts.fetch_fonts(destination):
        raise RuntimeError("could not be fetched (run again to go on):\n" + "\n".join(failures))
    pdfs = documents.fetch_documents(destination)
    split = {pdf.stem: documents.texts(pdf) for pdf in tqdm(pdfs, desc="texts")}
    train, held_out = ({name: texts[i] for name, texts in split.items()} | characters_by_chance(seed=i) for i in (0, 1))
    write_held_out(destination, held_out, photos)
    pages = [tiles for pdf in tqdm(pdfs, desc="pages") for tiles in documents.rasterise(pdf)]
    arrays = {"pages": np.concatenate(pages), **backgrounds(photos, "train")}
    return write(destination, destination, train, arrays, held_out=False)


def write(
    folder: Path, fetched: Path, texts: dict[str, str], arrays: dict[str, np.ndarray], held_out: bool, seed: int = 0
) -> Manifest:
    """Draw the lines of text with the faces below `fetched`, and write all that a `TextSource` reads into `folder`."""
    characters = {name: set(text) - set("\n ") for name, text in texts.items()}
    needed = {**characters, "figures": set(CHARACTERS), "code": set(CHARACTERS)}
    scripts, families, lines = draw_lines(fonts.faces(fetched, needed, held_out), Writing(texts))
    manifest = Manifest(folder=folder, seed=seed, scripts=scripts, families=families)
    save(manifest, {**arrays, **lines})
    return manifest


def backgrounds(photos: Path | None, split: str) -> dict[str, np.ndarray]:
    """Pieces of a split's photos; nothing without photos."""
    if photos is None:
        return {}
    files = list_images(photos / split)
    each = max(1, min(8, BACKGROUNDS // len(files)))
    generator = np.random.default_rng(0)
    pieces = [piece(read_image(file), generator) for file in tqdm(files, desc="backgrounds") for _ in range(each)]
    return {"backgrounds": np.stack(pieces[:BACKGROUNDS])}


def piece(photo: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "side side 3"]:
    """Cut a square out of a photo, shrunk."""
    side = int(generator.uniform(0.4, 1) * min(photo.shape[:2]))
    top, left = (int(generator.integers(length - side + 1)) for length in photo.shape[:2])
    square = photo[top : top + side, left : left + side]
    return cv2.resize(square, (BACKGROUND, BACKGROUND), interpolation=cv2.INTER_AREA)


def write_held_out(destination: Path, texts: dict[str, str], photos: Path | None) -> None:
    """Draw the pictures that models are chosen by; their seed is another, so that no scene is arranged alike."""
    (destination / "held_out").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination, prefix=".held_out-") as folder:
        arrays = backgrounds(photos, "held_out")
        source = TextSource(write(Path(folder), destination, texts, arrays, held_out=True, seed=1))
        for index in range(HELD_OUT):
            Image.fromarray(source[index]).save(destination / "held_out" / f"{index:03d}.png")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path, metavar="DIR")
    parser.add_argument("--photos", type=Path, help="folder of tools/fetch_photos.py; without it signs have no photos")
    arguments = parser.parse_args()
    try:
        manifest = fetch(arguments.destination, arguments.photos)
    except (RuntimeError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    families, lines = manifest.families, manifest.array("lines")
    print(f"{len(families)} faces of {len(set(families))} families, {len(lines)} lines")


if __name__ == "__main__":
    main()
