"""Cut photos into tiles and write them as ArrayRecord, for fast random access during training.

    python -m tvt_jax.data.prepare --images DIR --out DIR --crop 320 --stride 256
    python -m tvt_jax.data.prepare --images DIR --out DIR --shard 0/4      # on each of four machines, up to 3/4
    python -m tvt_jax.data.prepare --images DIR --out DIR --beam=--runner=DirectRunner

A training crop then costs the decoding of one tile instead of one photo. The same command goes on where it was cut off,
and writes damaged files anew. See docs/data.md.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from tqdm import tqdm

from tvt_jax.data.photos import find_photos
from tvt_jax.data.shard import parse_shard
from tvt_jax.data.sources import MANIFEST
from tvt_jax.data.tiles import Cut, write_tiles
from tvt_jax.files import files_below, whole_folder, write_whole
from tvt_jax.place import Place, place

Manifest = dict[str, Any]

# Says of a part what the manifest will, and that it is whole.
PART = "part.json"


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Cut):
    """How to cut photos into tiles, and who cuts which.

    Attributes:
        images: Folder tree of photos, or of tar or Parquet files of photos, or a text file that names a photo a line;
            also in gs://BUCKET/NAME.
        out: Folder to write to, or gs://BUCKET/NAME.
        photos_per_part: Photos whose tiles are written together: so many are lost at most when the command is cut off.
            Of an archive, all are.
        column: Where a Parquet file has its images: bytes, or Hugging Face's struct of bytes and path.
        text_column: Where a Parquet file has the images' texts, if they are to be kept.
        shard: I/N, to write the parts I, I + N, I + 2 N and so on, while others write the rest.
        beam: To have all parts written by Apache Beam's workers; its pipeline options.
    """

    images: Path
    out: Path
    photos_per_part: int = 1000
    column: str = "image"
    text_column: str | None = None
    shard: str = "0/1"
    beam: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.photos_per_part < 1:
            raise ValueError(f"photos_per_part {self.photos_per_part} must be positive")
        parse_shard(self.shard)
        if self.beam is not None and self.shard != "0/1":
            raise ValueError(f"shard {self.shard} and beam exclude each other: Beam shares out the parts itself")

    def settings(self) -> dict[str, Any]:
        """Give what decides on the tiles, beside the photos."""
        who_and_where = ("images", "out", "shard", "beam")
        settings = {name: value for name, value in asdict(self).items() if name not in who_and_where}
        if self.text_column is None:  # as before there were any
            del settings["text_column"]
        return settings


class Preparation:
    """Tiles under way: any part can be written anywhere at any time, and the manifest once all are there.

    Raises:
        FileExistsError: `out` holds tiles of other photos, texts or settings, or of an unknown origin.
        FileNotFoundError: There are no images.
        ValueError: There are both images and archives.
    """

    def __init__(self, config: PrepareConfig) -> None:
        self._config = config
        self._out = place(config.out)
        photos = find_photos(place(config.images), config.photos_per_part, config.column, config.text_column)
        self._parts = photos.parts
        self._begun: Manifest = {"settings": config.settings(), "photos": photos.fingerprint}
        if photos.texts:
            self._begun["texts"] = photos.texts
        # Asked for before the manifest, which whoever began to write tiles wrote first.
        tiles = any(path.name == "features.json" for path in files_below(self._out))
        manifest = self._manifest()
        if manifest is None and tiles:
            raise FileExistsError(f"{self._out} holds tiles without a manifest; choose another --out")
        if manifest is None:
            self._save({}, [])
        elif any(manifest.get(key) != value for key, value in self._begun.items()):
            raise FileExistsError(f"{self._out} holds tiles of other photos, texts or settings; choose another --out")

    def __len__(self) -> int:
        return len(self._parts)

    def write(self, number: int) -> None:
        """Write a part, unless it is there and its checksums are right."""
        folder = self._folder(number)
        if _is_whole(folder):
            return
        if (self._manifest() or {}).get("complete"):
            self._save({}, [])
        with whole_folder(folder, last=PART) as written:
            told = write_tiles(self._parts[number], self._config, written)
            write_whole(written / PART, json.dumps({**told, "sha256": checksums(written)}, indent=1) + "\n")

    def finish(self) -> Manifest | None:
        """Write the manifest and return it; None if parts are missing.

        Raises:
            ValueError: No tile was left.
        """
        folders = [self._folder(number) for number in range(len(self))]
        if {folder / PART for folder in folders} - set(files_below(self._out)):
            return None
        with ThreadPoolExecutor(16) as threads:  # a bucket answers many at once
            parts = list(threads.map(_told, folders))
        counts = {name: sum(part["counts"][name] for part in parts) for name in parts[0]["counts"]}
        if not counts["tiles"]:
            raise ValueError(f"no tiles in {self._config.images}: {counts}; lower --minimum-detail?")
        return self._save(counts, parts)

    def _folder(self, number: int) -> Place:
        return self._out / f"part_{number:05d}"

    def _manifest(self) -> Manifest | None:
        path = self._out / MANIFEST
        return json.loads(path.read_text()) if path.exists() else None

    def _save(self, counts: dict[str, int], parts: list[dict[str, Any]]) -> Manifest:
        texts = sorted({text for part in parts for text in part.pop("texts", ())})
        begun = self._begun | ({"texts": texts} if texts else {})
        manifest = {"complete": bool(parts), **begun, "counts": counts, "parts": parts}
        write_whole(self._out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
        return manifest


def prepare(config: PrepareConfig) -> Manifest | None:
    """Write the shard's parts; return the manifest of settings, counts and checksums if all parts are there now.

    Parts that an earlier call wrote stay if their checksums are right. The same photos and settings give the same
    files, however many shards there are, cut off or not.

    Raises:
        FileExistsError: `out` holds tiles of other photos, texts or settings, or of an unknown origin.
        FileNotFoundError: There are no images.
        ValueError: No tile was left, or there are both images and archives.
    """
    if config.beam is not None and importlib.util.find_spec("apache_beam") is None:
        raise ValueError("--beam needs apache-beam, which is not installed: pip install 'tvt-jax[beam]'")
    preparation = Preparation(config)
    if config.beam is not None:
        from tvt_jax.data.beam import write_parts

        write_parts(asdict(config), len(preparation), config.beam.split())
    else:
        for number in tqdm(range(len(preparation))[parse_shard(config.shard)], unit="part", disable=None):
            preparation.write(number)
    return preparation.finish()


def _is_whole(folder: Place) -> bool:
    try:
        return _told(folder)["sha256"] == checksums(folder)
    except (FileNotFoundError, ValueError):  # not there, or damaged itself
        return False


def _told(folder: Place) -> dict[str, Any]:
    """Read what a part says of itself; raise ValueError where that is not all of it."""
    try:
        told = json.loads((folder / PART).read_text())
    except ValueError:
        told = None
    if not (isinstance(told, dict) and all(isinstance(told.get(name), dict) for name in ("counts", "sha256"))):
        raise ValueError(f"{folder / PART} is damaged: its shard, started again, writes it anew")
    return told


def checksums(folder: Place) -> dict[str, str]:
    """Compute the SHA-256 of each file below a part's folder, a piece at a time."""
    return dict(_checksums(folder))


def _checksums(folder: Place) -> Iterator[tuple[str, str]]:
    for path in files_below(folder):
        if path != folder / PART:
            with path.open("rb") as file:
                yield path.relative_to(folder).as_posix(), hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Write the tiles that the command line asks for, and print the counts."""
    try:
        manifest = prepare(config := tyro.cli(PrepareConfig, description=__doc__))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if manifest is None:
        print(f"shard {config.shard} is done; the shard that is done last writes the manifest")
    else:
        print(", ".join(f"{count} {what}" for what, count in manifest["counts"].items()))


if __name__ == "__main__":
    main()
