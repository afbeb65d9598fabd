"""Cut photos into tiles and write them as ArrayRecord, for fast random access during training.

    python -m tvt_jax.data.prepare --images DIR --out DIR --crop 320 --stride 256

A training crop then costs the decoding of one tile instead of one photo. The same command goes on where it was cut off,
and writes damaged files anew. See docs/data.md.
"""

import hashlib
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
from PIL import Image
from tqdm import tqdm

from tvt_jax.data.sources import MANIFEST, UnreadableImageError, list_images, one_line, read_image
from tvt_jax.data.texts import Texts
from tvt_jax.files import files_below, remove, write_whole, written_locally
from tvt_jax.place import Place, local_only, place

Manifest = dict[str, Any]

# Above a gigabyte TFDS puts a part's tiles aside in files, for which it needs TensorFlow.
LARGEST_PART = 900 << 20


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How to cut photos into tiles.

    Attributes:
        images: Folder tree of photos.
        out: Folder to write to, or gs://BUCKET/NAME.
        crop: Side of a tile in pixels; a photo that is smaller becomes one smaller tile.
        stride: Distance of tiles; the last row and column lie flush with the border.
        minimum_detail: Tiles with a mean absolute grey difference of neighbours below it (0 to 255) are left out:
            sky and blurred background teach little. 0 keeps all.
        photos_per_part: Photos whose tiles are written together, fewer where they are large: so many are lost at most
            when the command is cut off.
    """

    images: Path
    out: Path
    crop: int = 320
    stride: int = 256
    minimum_detail: float = 2.0
    photos_per_part: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.crop:
            raise ValueError(f"stride {self.stride} must be from 1 to the crop ({self.crop}), or pixels would be lost")
        if self.minimum_detail < 0:
            raise ValueError(f"minimum_detail {self.minimum_detail} must not be negative")
        if self.photos_per_part < 1:
            raise ValueError(f"photos_per_part {self.photos_per_part} must be positive")


class Tiles(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of some photos' tiles: `image` is a PPM (ten times faster to decode than PNG), `name` its origin.

    Where any photo has a text, each tile has its photo's as `text`.

    Attributes:
        counts: How many photos, unreadable files, tiles and flat tiles were met.
        unreadable: What was wrong with the unreadable files.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, config: PrepareConfig, photos: list[Path], folder: Path, texts: Texts | None) -> None:
        self.settings = config
        self.texts = texts
        self.photos = photos
        self.counts: Counter[str] = Counter(photos=0, unreadable=0, tiles=0, flat=0)
        self.unreadable: list[str] = []
        super().__init__(data_dir=str(folder), file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(), "name": tfds.features.Text()}
        if self.texts:
            features["text"] = tfds.features.Text()
        features = tfds.features.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for path in self.photos:
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
                name = one_line(f"{path.relative_to(self.settings.images).as_posix()}@{top},{left}")
                said = {"text": self.texts[path]} if self.texts else {}
                yield self.counts["tiles"], {"image": encode_ppm(tile), "name": name, **said}
                self.counts["tiles"] += 1


def tile_corners(size: tuple[int, int], crop: int, stride: int) -> list[tuple[int, int]]:
    """List the top left corners of the tiles that cover an image of (height, width)."""
    tops, lefts = (_starts(length, crop, stride) for length in size)
    return [(top, left) for top in tops for left in lefts]


def _starts(length: int, crop: int, stride: int) -> list[int]:
    if length <= crop:
        return [0]
    return [*range(0, length - crop, stride), length - crop]


def detail(tile: UInt8[np.ndarray, "h w 3"]) -> float:
    """Average the absolute differences of neighbouring grey values (0 to 255), over both directions."""
    grey = cv2.cvtColor(tile, cv2.COLOR_RGB2GRAY).astype(np.int16)
    differences = [np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)]
    return float(np.concatenate(differences).mean()) if grey.size > 1 else 0.0


def encode_ppm(tile: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Encode as binary PPM."""
    height, width = tile.shape[:2]
    return b"P6\n%d %d\n255\n" % (width, height) + tile.tobytes()


def prepare(config: PrepareConfig) -> Manifest:
    """Write the tiles part by part, and a manifest of settings, counts and checksums; return the manifest.

    Parts that an earlier call wrote stay if their checksums are right. The same photos and settings give the same
    tiles in the same order, cut off or not.

    Raises:
        FileExistsError: `out` holds tiles of other photos, texts or settings, or of an unknown origin.
        FileNotFoundError: There are no images.
        ValueError: No tile was left.
    """
    local_only(config.images)
    out = place(config.out)
    photos = list_images(config.images)
    texts = Texts(config.images)
    said = {photo: texts[photo] for photo in photos}
    described = texts if any(said.values()) else None
    portions = _portions(config, photos)
    manifest = _begin(config, out, photos, portions, [*said.values()] if described else [])
    parts = manifest["parts"]
    for number, portion in enumerate(portions):
        folder = out / f"part_{number:05d}"
        if number < len(parts) and _checksums(folder) == parts[number]["sha256"]:
            continue
        _save(out, manifest, complete=False)
        remove(folder)
        parts[number : number + 1] = [_write_part(config, portion, folder, described)]
    manifest["counts"] = {name: sum(part["counts"][name] for part in parts) for name in parts[0]["counts"]}
    if not manifest["counts"]["tiles"]:
        raise ValueError(f"no tiles in {config.images}: {manifest['counts']}; lower --minimum-detail?")
    _save(out, manifest, complete=True)
    return manifest


def _portions(config: PrepareConfig, photos: list[Path]) -> list[list[Path]]:
    """Give the photos part by part, none with more tiles than TFDS keeps in memory (but for a single photo's)."""
    portions: list[list[Path]] = [[]]
    size = 0
    for photo in photos:
        added = _size_of_tiles(config, photo)
        if len(portions[-1]) == config.photos_per_part or (portions[-1] and size + added > LARGEST_PART):
            portions.append([])
            size = 0
        portions[-1].append(photo)
        size += added
    return portions


def _size_of_tiles(config: PrepareConfig, photo: Path) -> int:
    """Count the bytes of a photo's tiles, flat ones included; 0 if it cannot be read."""
    if not photo.is_file():  # reading a named pipe would wait for ever
        return 0
    try:
        with Image.open(photo) as image:
            width, height = image.size
    except Exception:  # Pillow raises whatever comes; the file is named when its turn comes
        return 0
    return len(tile_corners((height, width), config.crop, config.stride)) * 3 * config.crop**2


def _begin(
    config: PrepareConfig, out: Place, photos: list[Path], portions: list[list[Path]], texts: list[str]
) -> Manifest:
    """Read the manifest that an earlier call left, or begin a new one."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("images", "out")}
    fingerprint = {**_fingerprint(config.images, photos), "portions": [len(portion) for portion in portions]}
    if texts:
        fingerprint["texts"] = hashlib.sha256(repr(texts).encode()).hexdigest()
    begun: Manifest = {"settings": settings, "photos": fingerprint}
    path = out / MANIFEST
    if path.exists():
        manifest = json.loads(path.read_text())
        if any(manifest.get(key) != value for key, value in begun.items()):
            raise FileExistsError(f"{out} holds tiles of other photos, texts or settings; choose another --out")
        return manifest
    if any(path.name == "features.json" for path in files_below(out)):
        raise FileExistsError(f"{out} holds tiles without a manifest; choose another --out")
    begun |= {"texts": sorted(set(texts))} if texts else {}
    return {"complete": False, **begun, "counts": {}, "parts": []}


def _save(out: Place, manifest: Manifest, complete: bool) -> None:
    manifest["complete"] = complete
    write_whole(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _fingerprint(root: Path, photos: list[Path]) -> dict[str, int | str]:
    """Count the photos and hash their names and sizes, which tells whether they are the same."""
    names_and_sizes = [(str(photo.relative_to(root)), _size(photo)) for photo in photos]
    return {"files": len(photos), "sha256": hashlib.sha256(repr(names_and_sizes).encode()).hexdigest()}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _write_part(config: PrepareConfig, photos: list[Path], folder: Place, texts: Texts | None) -> dict[str, Any]:
    """Write the tiles of some photos as a TFDS data set, and return what the manifest says of them."""
    with written_locally(folder) as written:
        builder = Tiles(config, photos, written, texts)
        try:
            builder.download_and_prepare()
        except AssertionError:  # TFDS refuses to write nothing
            if builder.counts["tiles"]:
                raise
            remove(written)
        checksums = _checksums(written)
    return {"counts": dict(builder.counts), "unreadable": builder.unreadable, "sha256": checksums}


def _checksums(folder: Place) -> dict[str, str]:
    """Compute the SHA-256 of each file below a folder, a piece at a time."""
    checksums = {}
    for path in files_below(folder):
        with path.open("rb") as file:
            checksums[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return checksums


def main() -> None:
    """Write the tiles that the command line asks for, and print the counts."""
    try:
        manifest = prepare(tyro.cli(PrepareConfig, description=__doc__))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(", ".join(f"{count} {what}" for what, count in manifest["counts"].items()))


if __name__ == "__main__":
    main()
