"""Millions of photos named in a text file, in place of walking through folders and of holding a path for each."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from tvt_jax.place import Place, in_bucket, place

LIST_SUFFIX = ".txt"

_PIECE = 1 << 24
_NOTHING = np.empty(0, np.uint8)


class ImageList(Sequence[Place]):
    """The paths in a text file: one a line, relative to the file's folder, absolute, or gs://BUCKET/NAME.

    The text stays in the file, which all processes of a machine share; each holds 16 bytes a line beside it.

    Raises:
        FileNotFoundError: there is no such file, or nothing in it.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        self._text = _read(path) if path.is_file() else _NOTHING
        if not len(self._text):
            raise FileNotFoundError(f"there is no list of images {path}, or it is empty; give one path a line")
        ends = np.append(_line_breaks(self._text), len(self._text))
        starts = np.append(0, ends[:-1] + 1)
        filled = ends > starts
        self._starts, self._ends = starts[filled], ends[filled]

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Place: ...

    @overload
    def __getitem__(self, index: slice) -> list[Place]: ...

    def __getitem__(self, index: int | slice) -> Place | list[Place]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        line = os.fsdecode(self._text[self._starts[index] : self._ends[index]].tobytes().rstrip(b"\r"))
        return place(line) if in_bucket(line) else self.path.parent / line

    def __reduce__(self) -> tuple[Any, ...]:
        """Read anew in a worker process, as what is mapped from a file would else be copied there."""
        return ImageList, (self.path,)

    def sha256(self) -> str:
        """Hash the text."""
        return hashlib.sha256(self._text.data).hexdigest()


def _read(path: Place) -> np.ndarray:
    if not isinstance(path, Path):
        return np.frombuffer(path.read_bytes(), np.uint8)
    return np.memmap(path, np.uint8, "r") if path.stat().st_size else _NOTHING


def _line_breaks(text: np.ndarray) -> np.ndarray:
    """Find the line breaks a piece at a time, as comparing all at once would take as much again as the text."""
    pieces = range(0, len(text), _PIECE)
    return np.concatenate([start + np.flatnonzero(text[start : start + _PIECE] == ord("\n")) for start in pieces])
