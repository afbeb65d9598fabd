"""Files of others, mapped into memory, and what to say of those that cannot be read."""

import mmap
import re
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


def printable(text: str) -> str:
    """Give text of a hostile file as a terminal may show it: control characters and lone surrogates are escaped."""
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)


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


# What is found in place of weights, by how it begins.
_OTHERS = (
    (rb"version https://git-lfs", "a Git LFS pointer, not the file: fetch it by `git lfs pull`, or download it again"),
    (
        rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|error|!--)",
        "a web page, not the file: download it again, signed in if need be",
    ),
    (rb"\s*[{\[]", "JSON, not weights: give the file of weights that belongs to it"),
    (
        rb"\x80[\x00-\x05]",
        "a plain pickle, not a file of torch.save: it may run anything; get its tensors as safetensors",
    ),
    (rb"\x1f\x8b|BZh|\xfd7zXZ\x00|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "packed: unpack it first"),
    (rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF.{4}WEBP", "a picture"),
    (rb"\x93NUMPY", "an array of numpy: give the PyTorch weights or safetensors"),
    (rb"GGUF", "a GGUF file: give the safetensors that it was made from"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes: give the PyTorch weights or safetensors"),
    (rb"PK\x05\x06", "an empty zip"),
    (rb"\Z", "empty"),
    (rb"(?=.*\S)[\t\n\r\x20-\x7e]+\Z", "text, not weights: look into it for what went wrong when it was downloaded"),
)


def refuse_others(data: memoryview) -> None:
    """Call what is no file of weights by its name.

    Raises:
        Refusal: it is one of those that are found in their place.
    """
    start = bytes(data[:64])
    for pattern, what in _OTHERS:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            raise Refusal(f"is {what}")
    if bytes(data[257:262]) == b"ustar":
        raise Refusal("is a tar archive: unpack it first, or save it again by a PyTorch of 0.4 or newer")


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
