"""Write what is in each picture of a folder beside it, as tags: FILE.jpg.txt for FILE.jpg.

    python -m tvt_jax.data.caption --tagger TAGGER --images DIR
    python -m tvt_jax.data.caption --tagger TAGGER --images DIR --shard 0/4      # on each of four machines, up to 3/4

The same command goes on where it was cut off. A picture with a text, also in FILE.txt or metadata.csv, is passed by.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import UInt8
from tqdm import tqdm

from tvt_jax.data.shard import parse_shard
from tvt_jax.data.sources import UnreadableImageError, list_images, read_image
from tvt_jax.data.texts import Texts, text_file
from tvt_jax.files import write_whole
from tvt_jax.tagger import Tagger
from tvt_jax.tagger_folder import read_tagger


@dataclass(frozen=True, kw_only=True)
class CaptionConfig:
    """What to tag.

    Attributes:
        tagger: Tagger folder, or hf://OWNER/NAME.
        images: Folder tree of pictures, tagged as they are, at their own size.
        batch: Pictures that are tagged together.
        shard: I/N, to tag the pictures I, I + N, I + 2 N and so on of all, while others tag the rest.
    """

    tagger: Path
    images: Path
    batch: int = 8
    shard: str = "0/1"

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch {self.batch} must be 1 or more")
        parse_shard(self.shard)


def caption(config: CaptionConfig) -> tuple[int, list[str]]:
    """Tag the pictures that have no text yet; give how many these were, and what was wrong with the others.

    Raises:
        FileNotFoundError: there is no tagger, or no picture.
        ValueError: the tagger is damaged, or the table of texts.
    """
    mine = list_images(config.images)[parse_shard(config.shard)]
    known = Texts(config.images)
    todo = [path for path in mine if path not in known]
    tag = Tagger(read_tagger(config.tagger))
    failures: list[str] = []
    written = 0
    read = _read(tqdm(todo, unit="picture", disable=None), failures)
    while batch := list(islice(read, config.batch)):
        pictures = [picture for _, picture in batch]
        # Filled up, the last batch needs no program of its own.
        pictures += pictures[:1] * (config.batch - len(pictures))
        for (path, _), tags in zip(batch, tag(pictures), strict=False):
            write_whole(text_file(path), ", ".join(tags) + "\n")
            written += 1
    return written, failures


def _read(paths: "tqdm[Path]", failures: list[str]) -> Iterator[tuple[Path, UInt8[np.ndarray, "_ _ 3"]]]:
    for path in paths:
        try:
            yield path, read_image(path)
        except UnreadableImageError as error:
            failures.append(str(error))


def main() -> None:
    """Tag what the command line asks for, and list what could not be read."""
    try:
        written, failures = caption(tyro.cli(CaptionConfig, description=__doc__))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{written} pictures tagged")
    if failures:
        sys.exit("\n  ".join([f"error: {len(failures)} pictures could not be read:", *failures]))


if __name__ == "__main__":
    main()
