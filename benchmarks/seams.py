"""How far tiles are from one piece: photos restored by the smallest tiles, and whole, in levels of 0 to 255.

python -m benchmarks.seams --images data/photos/held_out --out runs/seams
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

import tvt_jax
from benchmarks.report import markdown, run_as_command, write
from tvt_jax.inference.images import READABLE
from tvt_jax.inference.windows import Enlarged

WHOLE = 288  # the tile with which a picture of up to 512 pixels runs in one piece


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        images: a folder of photos, searched through.
        out: the table and the figures, without an ending.
        side: of the square that is taken from each photo's middle, after it is halved.
        tiles: what is compared with one piece, in latent pixels.
        model: a model folder; the default is the embedded one.
    """

    images: Path
    out: Path
    side: int = 256
    tiles: tuple[int, ...] = (96, 160)
    model: Path | None = None


def main(options: Options) -> None:
    """Measure each photo at each tile and print the table."""
    whole = tvt_jax.load(options.model, tile=WHOLE)
    tiled = {tile: tvt_jax.load(options.model, tile=tile) for tile in options.tiles}
    rows = []
    for name, image in photos(options.images, options.side):
        source = Enlarged(image, whole.card.scale)
        x = source.window(0, 0, *source.size)[None]
        expected = whole.restore(x)
        for tile, upscaler in tiled.items():
            difference = 127.5 * np.abs(upscaler.restore(x) - expected)
            rows.append((name, str(tile), f"{difference.max():.2f}", f"{difference.mean():.3f}"))
            print(*rows[-1], flush=True)
    table = markdown(("photo", "tile", "largest", "mean"), rows)
    write(options.out, {"rows": rows}, table)
    print(table)


def photos(folder: Path, side: int) -> Iterator[tuple[str, np.ndarray]]:
    """Cut the middle of each photo, halved, by its name; those too small for it are left out."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in READABLE):
        with Image.open(path) as photo:
            small = photo.convert("RGB").reduce(2)
        left, top = (small.width - side) // 2, (small.height - side) // 2
        if min(left, top) >= 0:
            yield path.name, np.asarray(small.crop((left, top, left + side, top + side)))


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Options, description=__doc__)))
