"""Photos in archives, one after the other: tar, as webdataset writes it, and Parquet, as Hugging Face does."""

import importlib.util
import logging
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from tvt_jax.data.sources import UnreadableImageError, decode_image, is_image, one_line
from tvt_jax.data.texts import one_line_of
from tvt_jax.place import Place

ARCHIVE_SUFFIXES = frozenset({".tar", ".parquet"})

# No photo is larger, and each is held in memory.
LARGEST_MEMBER = 1 << 30

LARGEST_TEXT = 1 << 20  # and what says what a photo shows is no longer

_ROWS = 16  # read at a time


logger = logging.getLogger(__name__)


class Columns(NamedTuple):
    """Where a Parquet file has its images, and their texts, if they are asked for."""

    image: str
    text: str | None = None


class Photo(NamedTuple):
    """A photo under its name below what is prepared, or what is wrong with it; what it shows, in words, if told."""

    name: str
    pixels: UInt8[np.ndarray, "h w 3"] | UnreadableImageError
    text: str = ""


def is_tar(archive: Place) -> bool:
    """Tell a tar from a Parquet file, by its name."""
    return archive.suffix.lower() == ".tar"


def photos_in(archive: Place, root: Place, columns: Columns) -> Iterator[Photo]:
    """Give an archive's photos in its order, with their texts; where damage hides the rest, that is the last of them.

    In a tar the text is the member NAME.txt, right before or after the image NAME, as webdataset keeps them together.

    Raises:
        OSError: the archive cannot be read, damaged or not: reading it again may help.
    """
    name = archive.relative_to(root).as_posix()
    if isinstance(archive, Path) and archive.exists() and not archive.is_file():  # a named pipe would be waited for
        yield Photo(name, UnreadableImageError(f"{one_line(archive)}: not a file"))
        return
    photos = _in_tar(archive) if is_tar(archive) else _in_parquet(archive, columns)
    try:
        for inner, data, text in photos:
            yield _decoded(f"{name}/{inner}", data, one_line_of(text))
    except _DamagedError as error:
        yield Photo(name, UnreadableImageError(f"{one_line(archive)}: {error}"))


def check_parquet() -> None:
    """Raise ValueError if what reads Parquet is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install 'tvt-jax[parquet]'")


class _DamagedError(ValueError):
    """What follows in an archive is lost."""


Found = Iterator[tuple[str, bytes | str, str]]
"""Names, each with the bytes of an image, or with what is wrong, and with its text."""


def _decoded(name: str, data: bytes | str, text: str) -> Photo:
    if isinstance(data, str):
        return Photo(name, UnreadableImageError(f"{one_line(name)}: {data}"))
    try:
        return Photo(name, decode_image(data, name), text)
    except UnreadableImageError as error:
        return Photo(name, error)


class _Header(tarfile.TarInfo):
    """A member's header. Damage is an error: tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        # What is no number or no text in a header comes as it is.
        except (tarfile.HeaderError, ValueError, LookupError, OverflowError) as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset}") from error


def _in_tar(path: Place) -> Found:
    read, lone, sample = 0, 0, _Sample()
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if (key := _key(name)) != sample.key:
                    lone += sample.is_lone_text()
                    yield from sample.photos()
                    sample = _Sample(key)
                if not any(part.startswith(".") and part != ".." for part in name.parts):
                    sample.add(member, archive)
                read += 1
        lone += sample.is_lone_text()
        yield from sample.photos()
    except tarfile.TarError as error:
        yield from sample.photos()
        raise _DamagedError(f"cut off or damaged after {read} members, the rest is lost: {error}") from error
    finally:
        if lone:
            logger.warning("%s: %d texts are left out, with no image of their name right before or after", path, lone)


def _key(name: PurePosixPath) -> str:
    """Give what webdataset tells samples apart by: the path up to the name's first dot."""
    return (name.parent / name.name.split(".")[0]).as_posix()


@dataclass
class _Sample:
    """Members of a tar with one key, one after the other: mostly an image and what belongs to it."""

    key: str | None = None
    images: list[tuple[str, bytes | str]] = field(default_factory=list)
    text: str = ""

    def add(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Read what is an image or a text."""
        name = PurePosixPath(member.name)
        if is_image(name):
            self.images.append((member.name, _content(archive, member)))
        elif name.suffix.lower() == ".txt" and member.isreg():
            if member.size > LARGEST_TEXT:
                logger.warning("%s: %d bytes are no text of a photo, and are left out", one_line(name), member.size)
                return
            data = _content(archive, member)
            self.text = data.decode("utf-8", errors="replace") if isinstance(data, bytes) else ""

    def is_lone_text(self) -> bool:
        """Tell whether its text belongs to no image."""
        return bool(self.text) and not self.images

    def photos(self) -> Found:
        """Give the images, each with the text."""
        images, self.images = self.images, []
        return ((name, data, self.text) for name, data in images)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | str:
    if member.size > LARGEST_MEMBER:
        return f"{member.size} bytes are no photo"
    if not member.isreg():
        return "a link, folder or device, not a file"
    file = archive.extractfile(member)
    return file.read() if file else "not a file"


def _in_parquet(path: Place, columns: Columns) -> Found:
    from pyarrow import parquet

    with path.open("rb") as file:
        with _damage("damaged"):
            table = parquet.ParquetFile(file, page_checksum_verification=True)
        wanted = _check_columns(path, table.schema_arrow, columns)
        end = 0
        for group in range(table.num_row_groups):
            number, end = end, end + table.metadata.row_group(group).num_rows
            try:
                with _damage(f"damaged, and lost with what follows before row {end}"):
                    for batch in table.iter_batches(_ROWS, [group], wanted):
                        for row in batch.to_pylist():
                            text = (row[columns.text] or "") if columns.text else ""
                            yield str(number), _bytes_of(row[columns.image]), text
                            number += 1
            except _DamagedError as error:
                yield str(number), str(error), ""


def _check_columns(path: Place, schema: Any, columns: Columns) -> list[str]:
    """Give the columns to read; say which texts are left out."""
    from pyarrow import types

    names = schema.names
    for option, column in (("column", columns.image), ("text-column", columns.text)):
        if column is not None and column not in names:
            raise _DamagedError(f"no column {column}; --{option} may be one of {', '.join(names)}")
    if columns.text is None:
        if texts := [name for name in ("text", "caption") if name in names]:
            logger.warning("%s: the column %s is left out: --text-column %s keeps it", path, texts[0], texts[0])
        return [columns.image]
    kind = schema.field(columns.text).type
    if not (types.is_string(kind) or types.is_large_string(kind)):
        raise _DamagedError(f"the column {columns.text} holds {kind}, not text")
    return [columns.image, columns.text]


@contextmanager
def _damage(what: str) -> Iterator[None]:
    """Raise _DamagedError for what pyarrow raises, but not for the system's errors: reading again may help there."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _DamagedError(f"{what}: {error}") from error


def _bytes_of(row: Any) -> bytes | str:
    data = row.get("bytes") if isinstance(row, dict) else row
    if isinstance(data, bytes):
        return data
    if isinstance(row, dict) and row.get("path"):
        return f"names {one_line(str(row['path']))}, but the image is not in the file"
    return "no image" if data is None else f"{type(data).__name__}, not the bytes of an image"
