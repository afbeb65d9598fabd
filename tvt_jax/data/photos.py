"""What to prepare, part by part: photos below a folder or in a list, or archives of them."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tvt_jax.data.archives import ARCHIVE_SUFFIXES, Photo, check_parquet, photos_in
from tvt_jax.data.listing import ImageList
from tvt_jax.data.sources import IMAGE_SUFFIXES, UnreadableImageError, images_at, is_image, read_image
from tvt_jax.files import sizes
from tvt_jax.place import Place


class Part(NamedTuple):
    """Photos whose tiles are written together: some of the files, or one archive."""

    root: Place
    files: Sequence[Place]
    first: int
    end: int
    column: str

    def photos(self) -> Iterator[Photo]:
        """Read them one after the other."""
        for file in self.files[self.first : self.end]:
            if _is_archive(file):
                yield from photos_in(file, self.root, self.column)
            else:
                yield _photo(file, self.root)


class Photos(NamedTuple):
    """All parts, and by what photos are told from others."""

    parts: list[Part]
    fingerprint: dict[str, int | str]


def find_photos(images: Place, photos_per_part: int, column: str) -> Photos:
    """List what to prepare, without opening any of it.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: There are both images and archives, or what reads them is not installed.
    """
    files = images_at(images, IMAGE_SUFFIXES | ARCHIVE_SUFFIXES)
    archives = [] if isinstance(files, ImageList) else _archives(images, files)
    root = images.parent if isinstance(files, ImageList) else images
    step = 1 if archives else photos_per_part
    starts = range(0, len(files), step)
    parts = [Part(root, files, start, min(start + step, len(files)), column) for start in starts]
    return Photos(parts, _fingerprint(root, files))


def _archives(images: Place, files: Sequence[Place]) -> list[Place]:
    archives = [file for file in files if _is_archive(file)]
    loose = [file for file in files if is_image(file)]
    if archives and loose:
        raise ValueError(
            f"{images} holds both images ({loose[0]}) and archives ({archives[0]}): name a folder of either"
        )
    if any(archive.suffix.lower() == ".parquet" for archive in archives):
        check_parquet()
    return archives


def _is_archive(file: Place) -> bool:
    return file.suffix.lower() in ARCHIVE_SUFFIXES


def _fingerprint(root: Place, files: Sequence[Place]) -> dict[str, int | str]:
    """Count the files and hash their names and sizes, of a list the names alone."""
    if isinstance(files, ImageList):
        return {"files": len(files), "sha256": files.sha256()}
    names = [str(file.relative_to(root)) for file in files]
    names_and_sizes = list(zip(names, sizes(root, files), strict=True))
    return {"files": len(files), "sha256": hashlib.sha256(repr(names_and_sizes).encode()).hexdigest()}


def _photo(file: Place, root: Place) -> Photo:
    inside = isinstance(file, Path) == isinstance(root, Path) and file.is_relative_to(root)
    name = file.relative_to(root).as_posix() if inside else str(file)
    try:
        return Photo(name, read_image(file))
    except UnreadableImageError as error:
        return Photo(name, error)
