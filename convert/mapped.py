"""Files of others, mapped into memory, and what to say of those that cannot be read."""

import mmap
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_LONGEST = 120


class Refusal(ValueError):
    """A file cannot be read, or should not be; the message goes after the file's name."""


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it.

    Raises:
        ValueError: in place of a refusal.
    """
    try:
        yield
    except Refusal as error:
        raise ValueError(f"{file} {error}") from error


def brief(value: object) -> str:
    """Show a value of a hostile file on one line, cut short."""
    return " ".join(_Short().repr(value).split())[:_LONGEST]


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = _LONGEST

    def repr_ndarray(self, value: np.ndarray, level: int) -> str:
        return f"an array of {value.dtype}"  # numpy would print all of many small dimensions


def map_file(file: Path) -> memoryview:
    """Map a file into memory, to be read only.

    Raises:
        FileNotFoundError: it is missing, or is not a file.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there, or is not a file")
    if not file.stat().st_size:
        return memoryview(b"")
    with file.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def array_of(
    data: memoryview, dtype: np.dtype, shape: tuple[int, ...], offset: int = 0, strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """View bytes as an array; offset and strides are in bytes.

    Raises:
        Refusal: the array would reach beyond them.
    """
    try:
        return np.ndarray(shape, dtype, data, offset, strides)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refusal(f"has a tensor of shape {brief(shape)}, which its data cannot hold: it is damaged") from error
