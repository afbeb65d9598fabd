"""Cut photos into tiles and write them as ArrayRecord, for fast random access during training.

    python -m tvt_jax.data.prepare --images DIR --out DIR --crop 320 --stride 256

A training crop then costs the decoding of one tile instead of one photo. See docs/data.md.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
import tyro
from jaxtyping import UInt8
from tqdm import tqdm

from tvt_jax.data.sources import UnreadableImageError, list_images, one_line, read_image

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How to cut photos into tiles.

    Attributes:
        images: Folder tree of photos.
        out: Folder to write to.
        crop: Side of a tile in pixels; a photo that is smaller becomes one smaller tile.
        stride: Distance of tiles; the last row and column lie flush with the border.
        minimum_detail: Tiles with a mean absolute grey difference of neighbours below it (0 to 255) are left out:
            sky and blurred background teach little. 0 keeps all.
    """

    images: Path
    out: Path
    crop: int = 320
    stride: int = 256
    minimum_detail: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.crop:
            raise ValueError(f"stride {self.stride} must be from 1 to the crop ({self.crop}), or pixels would be lost")
        if self.minimum_detail < 0:
            raise ValueError(f"minimum_detail {self.minimum_detail} must not be negative")


class Tiles(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the tiles: `image` is a PPM (ten times faster to decode than PNG), `name` its file and place.

    Attributes:
        counts: How many photos, unreadable files, tiles and flat tiles were met.
        unreadable: What was wrong with the unreadable files.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, config: PrepareConfig) -> None:
        self.settings = config
        self.counts: Counter[str] = Counter(photos=0, unreadable=0, tiles=0, flat=0)
        self.unreadable: list[str] = []
        super().__init__(data_dir=str(config.out), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "name": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        root = self.settings.images
        for path in list_images(root):
            try:
                photo = read_image(path)
            except UnreadableImageError as error:
                self.counts["unreadable"] += 1
                self.unreadable.append(str(error))
                tqdm.write(f"skipped: {error}", file=sys.stderr)  # print would run into TFDS's progress bar
                continue
            self.counts["photos"] += 1
            for top, left in tile_corners(photo.shape[:2], self.settings.crop, self.settings.stride):
                tile = photo[top : top + self.settings.crop, left : left + self.settings.crop]
                if detail(tile) < self.settings.minimum_detail:
                    self.counts["flat"] += 1
                    continue
                name = one_line(f"{path.relative_to(root).as_posix()}@{top},{left}")
                yield self.counts["tiles"], {"image": encode_ppm(tile), "name": name}
                self.counts["tiles"] += 1


def tile_corners(size: tuple[int, int], crop: int, stride: int) -> list[tuple[int, int]]:
    """Top left corners of the tiles that cover an image of (height, width)."""
    tops, lefts = (_starts(length, crop, stride) for length in size)
    return [(top, left) for top in tops for left in lefts]


def _starts(length: int, crop: int, stride: int) -> list[int]:
    if length <= crop:
        return [0]
    return [*range(0, length - crop, stride), length - crop]


def detail(tile: UInt8[np.ndarray, "h w 3"]) -> float:
    """Mean absolute difference of neighbouring grey values (0 to 255), over both directions."""
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).astype(np.int16)
    differences = [np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)]
    return float(np.concatenate(differences).mean()) if grey.size > 1 else 0.0


def encode_ppm(tile: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Binary PPM."""
    height, width = tile.shape[:2]
    return b"P6\n%d %d\n255\n" % (width, height) + tile.tobytes()


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Write the tiles, and a manifest of settings and counts, which is returned.

    The same photos and settings give the same tiles in the same order.

    Raises:
        FileExistsError: There are tiles in `out` already.
        FileNotFoundError: There are no images.
        ValueError: No tile was left.
    """
    if any(config.out.glob("**/features.json")):
        raise FileExistsError(f"{config.out} holds tiles already; remove it or choose another --out")
    list_images(config.images)
    builder = Tiles(config)
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # TFDS refuses to write nothing
        if builder.counts["tiles"]:
            raise
        raise ValueError(f"no tiles in {config.images}: {dict(builder.counts)}; lower --minimum-detail?") from error
    settings = {key: value for key, value in asdict(config).items() if key not in ("images", "out")}
    manifest = {"settings": settings, "counts": dict(builder.counts), "unreadable": builder.unreadable}
    (config.out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def main() -> None:
    """Entry point."""
    try:
        manifest = prepare(tyro.cli(PrepareConfig, description=__doc__))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(", ".join(f"{count} {what}" for what, count in manifest["counts"].items()))


if __name__ == "__main__":
    main()
