"""Photos in archives, one after the other: tar, as webdataset writes it, and Parquet, as Hugging Face does."""

import importlib.util
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from tvt_jax.data.sources import UnreadableImageError, decode_image, is_image, one_line
from tvt_jax.place import Place

ARCHIVE_SUFFIXES = frozenset({".tar", ".parquet"})

# No photo is larger, and each is held in memory.
LARGEST_MEMBER = 1 << 30

_ROWS = 16  # read at a time


class Photo(NamedTuple):
    """A photo under its name below what is prepared, or what is wrong with it; what it shows, in words, if told."""

    name: str
    pixels: UInt8[np.ndarray, "h w 3"] | UnreadableImageError
    text: str = ""


def photos_in(archive: Place, root: Place, column: str) -> Iterator[Photo]:
    """Give an archive's photos in its order; where damage hides the rest, that is the last of them.

    Raises:
        OSError: the archive cannot be read, damaged or not: reading it again may help.
    """
    name = archive.relative_to(root).as_posix()
    if isinstance(archive, Path) and archive.exists() and not archive.is_file():  # a named pipe would be waited for
        yield Photo(name, UnreadableImageError(f"{one_line(archive)}: not a file"))
        return
    photos = _in_tar(archive) if archive.suffix.lower() == ".tar" else _in_parquet(archive, column)
    try:
        for inner, data in photos:
            yield _decoded(f"{name}/{inner}", data)
    except _DamagedError as error:
        yield Photo(name, UnreadableImageError(f"{one_line(archive)}: {error}"))


def check_parquet() -> None:
    """Raise ValueError if what reads Parquet is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ValueError("Parquet needs pyarrow, which is not installed: pip install 'tvt-jax[parquet]'")


class _DamagedError(ValueError):
    """What follows in an archive is lost."""


Found = Iterator[tuple[str, bytes | str]]
"""Names, each with the bytes of an image, or with what is wrong."""


def _decoded(name: str, data: bytes | str) -> Photo:
    if isinstance(data, str):
        return Photo(name, UnreadableImageError(f"{one_line(name)}: {data}"))
    try:
        return Photo(name, decode_image(data, name))
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
    read = 0
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if is_image(name) and not any(part.startswith(".") and part != ".." for part in name.parts):
                    yield member.name, _content(archive, member)
                read += 1
    except tarfile.TarError as error:
        raise _DamagedError(f"cut off or damaged after {read} members, the rest is lost: {error}") from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | str:
    if member.size > LARGEST_MEMBER:
        return f"{member.size} bytes are no photo"
    if not member.isreg():
        return "a link, folder or device, not a file"
    file = archive.extractfile(member)
    return file.read() if file else "not a file"


def _in_parquet(path: Place, column: str) -> Found:
    from pyarrow import parquet

    with path.open("rb") as file:
        with _damage("damaged"):
            table = parquet.ParquetFile(file, page_checksum_verification=True)
        if column not in (names := table.schema_arrow.names):
            raise _DamagedError(f"no column {column}; --column may be one of {', '.join(names)}")
        end = 0
        for group in range(table.num_row_groups):
            number, end = end, end + table.metadata.row_group(group).num_rows
            try:
                with _damage(f"damaged, and lost with what follows before row {end}"):
                    for batch in table.iter_batches(_ROWS, [group], [column]):
                        for row in batch.column(0):
                            yield str(number), _bytes_of(row.as_py())
                            number += 1
            except _DamagedError as error:
                yield str(number), str(error)


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
