"""What to prepare, part by part: photos below a folder or in a list, or archives of them."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tvt_jax.data.archives import ARCHIVE_SUFFIXES, Photo, check_parquet, photos_in
from tvt_jax.data.listing import ImageList
from tvt_jax.data.sources import IMAGE_SUFFIXES, UnreadableImageError, images_at, is_image, read_image
from tvt_jax.data.texts import Texts
from tvt_jax.files import sizes
from tvt_jax.place import Place


class Part(NamedTuple):
    """Photos whose tiles are written together: some of the files, or one archive; `texts` where any photo has one."""

    root: Place
    files: Sequence[Place]
    first: int
    end: int
    column: str
    texts: Texts | None

    def photos(self) -> Iterator[Photo]:
        """Read them one after the other."""
        for file in self.files[self.first : self.end]:
            if _is_archive(file):
                yield from photos_in(file, self.root, self.column)
            else:
                yield _photo(file, self.root, self.texts)


class Photos(NamedTuple):
    """All parts, by what photos are told from others, and the distinct texts."""

    parts: list[Part]
    fingerprint: dict[str, int | str]
    texts: list[str]


def find_photos(images: Place, photos_per_part: int, column: str) -> Photos:
    """List what to prepare, without opening any of it but texts.

    These are read in a folder on this machine: of a list or a bucket too many would have to be asked for.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: There are both images and archives, or what reads them is not installed.
    """
    files = images_at(images, IMAGE_SUFFIXES | ARCHIVE_SUFFIXES)
    archives = [] if isinstance(files, ImageList) else _archives(images, files)
    root = images.parent if isinstance(files, ImageList) else images
    step = 1 if archives else photos_per_part
    starts = range(0, len(files), step)
    beside = None if archives or isinstance(files, ImageList) or not isinstance(images, Path) else Texts(images)
    said = [beside[file] for file in files] if beside else []
    texts = beside if any(said) else None
    parts = [Part(root, files, start, min(start + step, len(files)), column, texts) for start in starts]
    return Photos(parts, _fingerprint(root, files, said if texts else []), sorted(set(said)) if texts else [])


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


def _fingerprint(root: Place, files: Sequence[Place], texts: list[str]) -> dict[str, int | str]:
    """Count the files and hash their names and sizes, of a list the names alone; and texts, if there are any."""
    if isinstance(files, ImageList):
        return {"files": len(files), "sha256": files.sha256()}
    names = [str(file.relative_to(root)) for file in files]
    names_and_sizes = list(zip(names, sizes(root, files), strict=True))
    of_files: dict[str, int | str] = {"files": len(files), "sha256": _hash(names_and_sizes)}
    return {**of_files, "texts": _hash(texts)} if texts else of_files


def _hash(data: list[Any]) -> str:
    return hashlib.sha256(repr(data).encode()).hexdigest()


def _photo(file: Place, root: Place, texts: Texts | None) -> Photo:
    inside = isinstance(file, Path) == isinstance(root, Path) and file.is_relative_to(root)
    name = file.relative_to(root).as_posix() if inside else str(file)
    try:
        return Photo(name, read_image(file), texts[file] if texts else "")
    except UnreadableImageError as error:
        return Photo(name, error)
