"""What to prepare, part by part: photos below a folder or in a list, or archives of them."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tvt_jax.data.archives import ARCHIVE_SUFFIXES, Columns, Photo, check_parquet, is_tar, photos_in
from tvt_jax.data.listing import ImageList
from tvt_jax.data.sources import IMAGE_SUFFIXES, UnreadableImageError, images_at, is_image, one_line, read_image
from tvt_jax.data.texts import TABLE, Texts, has_texts, text_file
from tvt_jax.files import sizes
from tvt_jax.place import Place

logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """Photos whose tiles are written together: some of the files, or one archive.

    `texts` are those beside files, where any photo has one; an archive has its own. `described` says whether there may
    be any, in any part.
    """

    root: Place
    files: Sequence[Place]
    first: int
    end: int
    columns: Columns
    texts: Texts | None
    described: bool

    def photos(self) -> Iterator[Photo]:
        """Read them one after the other."""
        for file in self.files[self.first : self.end]:
            if _is_archive(file):
                yield from photos_in(file, self.root, self.columns)
            else:
                yield _photo(file, self.root, self.texts)


class Photos(NamedTuple):
    """All parts, by what photos are told from others, and the distinct texts."""

    parts: list[Part]
    fingerprint: dict[str, int | str]
    texts: list[str]


def find_photos(images: Place, photos_per_part: int, column: str, text_column: str | None = None) -> Photos:
    """List what to prepare, without opening any of it but texts.

    Of a list or a bucket these are read in the table alone: too many files would have to be asked for. That is said.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: There are both images and archives, what reads them is not installed, or a text column is named
            and there is no Parquet file.
    """
    files = images_at(images, IMAGE_SUFFIXES | ARCHIVE_SUFFIXES)
    archives = [] if isinstance(files, ImageList) else _archives(images, files)
    root = images.parent if isinstance(files, ImageList) else images
    step = 1 if archives else photos_per_part
    starts = range(0, len(files), step)
    _check_text_column(text_column, archives, images)
    beside = None if archives else _texts_beside(images, files)
    said = [beside[file] for file in files] if beside else []
    texts = beside if any(said) else None
    described = texts is not None or text_column is not None or any(is_tar(archive) for archive in archives)
    columns = Columns(column, text_column)
    parts = [Part(root, files, start, min(start + step, len(files)), columns, texts, described) for start in starts]
    fingerprint = _fingerprint(root, files, said if texts else [])
    if archives and described:
        fingerprint["texts"] = "in archives"  # tiles without are of another kind
    return Photos(parts, fingerprint, sorted(set(said)) if texts else [])


def _check_text_column(text_column: str | None, archives: Sequence[Place], images: Place) -> None:
    if text_column is not None and all(is_tar(archive) for archive in archives):
        raise ValueError(f"text_column {text_column} is for Parquet files, and {images} holds none")


def _texts_beside(images: Place, files: Sequence[Place]) -> Texts | None:
    """Open the texts of photos; of a list or a bucket those of a table, and say so where there are others."""
    if has_texts(images):
        return Texts(images)
    first = files[0]
    if _exists(text_file(first)) or _exists(first.with_suffix(".txt")):
        logger.warning(
            "the texts beside the photos of %s are left out, such as that of %s: of a list or a bucket only the table "
            "%s beside it is read, with the columns file_name and text",
            images,
            one_line(first),
            TABLE,
        )
    return None


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


def _exists(file: Place) -> bool:
    try:
        return file.exists()
    except OSError:  # its name is too long
        return False


def _is_archive(file: Place) -> bool:
    return file.suffix.lower() in ARCHIVE_SUFFIXES


def _fingerprint(root: Place, files: Sequence[Place], texts: list[str]) -> dict[str, int | str]:
    """Count the files and hash their names and sizes, of a list the names alone; and texts, if there are any."""
    if isinstance(files, ImageList):
        of_list: dict[str, int | str] = {"files": len(files), "sha256": files.sha256()}
        return {**of_list, "texts": _hash(texts)} if texts else of_list
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
