"""Tiles of photos, and how a part of them is written: the same photos give the same bytes, in every process."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from tensorflow_datasets.core.example_serializer import ExampleSerializer
from tqdm import tqdm

from tvt_jax.data.photos import Part
from tvt_jax.data.sources import UnreadableImageError, one_line

# A file a part, under the names that TFDS looks for.
_FOLDER = "tiles/1.0.0"
_RECORDS = "tiles-train.array_record-00000-of-00001"


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How to cut photos into tiles.

    Attributes:
        crop: Side of a tile in pixels; a photo that is smaller becomes one smaller tile.
        stride: Distance of tiles; the last row and column lie flush with the border.
        minimum_detail: Tiles with a mean absolute grey difference of neighbours below it (0 to 255) are left out:
            sky and blurred background teach little. 0 keeps all.
    """

    crop: int = 320
    stride: int = 256
    minimum_detail: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.crop:
            raise ValueError(f"stride {self.stride} must be from 1 to the crop ({self.crop}), or pixels would be lost")
        if self.minimum_detail < 0:
            raise ValueError(f"minimum_detail {self.minimum_detail} must not be negative")


def write_tiles(part: Part, cut: Cut, folder: Path) -> dict[str, Any]:
    """Write the tiles of some photos as a TFDS data set, if there are any; return counts and what was unreadable.

    `image` is a PPM (ten times faster to decode than PNG), `name` its origin. Where any photo may have a text,
    each tile has its photo's as `text`, and what is returned the distinct ones of an archive. Tiles are written as they
    come, so that the memory does not grow with the part.
    """
    # Of no use before, and what only reads a configuration need not wait for it.
    from array_record.python.array_record_module import ArrayRecordWriter

    counts: Counter[str] = Counter(photos=0, unreadable=0, tiles=0, flat=0)
    unreadable: list[str] = []
    features = _features(with_text=part.described)
    texts: set[str] = set()
    serializer = ExampleSerializer(features.get_serialized_info())
    records = folder / _FOLDER / _RECORDS
    records.parent.mkdir(parents=True)
    writer, size = ArrayRecordWriter(str(records), "group_size:1"), 0
    for example in _tiles(part, cut, counts, unreadable):
        message = serializer.get_tf_example(features.encode_example(example))
        record = message.SerializeToString(deterministic=True)  # else in an order that differs between processes
        writer.write(record)
        size += len(record)
        texts.add(example.get("text", ""))
        counts["tiles"] += 1
    writer.close()
    if counts["tiles"]:
        split = tfds.core.SplitInfo(name="train", shard_lengths=[counts["tiles"]], num_bytes=size)
        _write_metadata(records.parent, features, split)
    else:
        shutil.rmtree(folder / "tiles")
    of_archive = {"texts": sorted(texts)} if part.described and part.texts is None else {}
    return {"counts": dict(counts), "unreadable": unreadable, **of_archive}


def _features(with_text: bool) -> tfds.features.FeaturesDict:
    text = {"text": tfds.features.Text()} if with_text else {}
    return tfds.features.FeaturesDict({"image": tfds.features.Image(), "name": tfds.features.Text(), **text})


def _write_metadata(folder: Path, features: tfds.features.FeaturesDict, split: tfds.core.SplitInfo) -> None:
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[split], check_data=False, disable_shuffling=True
    )


def _tiles(part: Part, cut: Cut, counts: Counter[str], unreadable: list[str]) -> Iterator[dict[str, Any]]:
    told = False
    for name, pixels, text in part.photos():
        if text and not part.described and not told:
            told = True
            tqdm.write(
                f"{one_line(name)}: its text is left out, as are those of all archives that a list names: give their "
                "folder in place of the list to keep them",
                file=sys.stderr,
            )
        if isinstance(pixels, UnreadableImageError):
            counts["unreadable"] += 1
            unreadable.append(str(pixels))
            tqdm.write(f"skipped: {pixels}", file=sys.stderr)  # print would run into the progress bar
            continue
        counts["photos"] += 1
        said = {"text": text} if part.described else {}
        for top, left in tile_corners(pixels.shape[:2], cut.crop, cut.stride):
            tile = pixels[top : top + cut.crop, left : left + cut.crop]
            if detail(tile) < cut.minimum_detail:
                counts["flat"] += 1
                continue
            yield {"image": encode_ppm(tile), "name": one_line(f"{name}@{top},{left}"), **said}


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
