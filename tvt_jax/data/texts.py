"""Texts beside photos, which say what they show: FILE.jpg.txt, FILE.txt, or a row of the folder's metadata.csv."""

import csv
import io
import os
from pathlib import Path
from typing import Any

from tvt_jax.place import Place

TABLE = "metadata.csv"  # as Hugging Face's ImageFolder names it and its columns
_FILE, _TEXT = "file_name", "text"


def text_file(photo: Any) -> Any:
    """Give the file that `tvt_jax.data.caption` writes a photo's text to."""
    return photo.with_name(f"{photo.name}.txt")


def has_texts(root: Place) -> bool:
    """Tell whether `Texts` may find any: in a folder on this machine, or in the table beside a list or in a bucket."""
    return _on_this_machine(root) or _table_of(root).exists()


class Texts:
    """The texts of the photos below a folder or in a list: a photo's own file counts before the table.

    Own files are read in a folder on this machine: of a list or a bucket too many would have to be asked for.
    """

    def __init__(self, root: Place) -> None:
        """Read the table, if there is one.

        Raises:
            ValueError: it lacks a column, or this is no folder on this machine and has no table.
        """
        if not has_texts(root):
            raise ValueError(
                f"{root} is no folder on this machine, and only there are texts read beside photos: name one, put a "
                f"{TABLE} into the folder, or make tiles of archives that have texts by tvt_jax.data.prepare"
            )
        self._beside = _on_this_machine(root)
        table = _table_of(root)
        self._root = table.parent
        self._table = _read_table(table) if table.exists() else {}

    def __getitem__(self, photo: Any) -> str:
        """Give a photo's text on one line; an empty one where it has none."""
        for file in (text_file(photo), photo.with_suffix(".txt")) if self._beside else ():
            if os.path.isfile(file):  # unlike the method, also of a name that is too long
                return one_line_of(file.read_text(encoding="utf-8", errors="replace"))
        inside = isinstance(photo, Path) == isinstance(self._root, Path) and photo.is_relative_to(self._root)
        return one_line_of(self._table.get(photo.relative_to(self._root).as_posix() if inside else str(photo), ""))


def one_line_of(text: str) -> str:
    """Give a text with single spaces in place of line breaks and other white space."""
    return " ".join(text.split())


def _on_this_machine(root: Place) -> bool:
    return isinstance(root, Path) and root.is_dir()


def _table_of(root: Place) -> Place:
    return (root.parent if root.suffix == ".txt" and not root.is_dir() else root) / TABLE


def _read_table(table: Place) -> dict[str, str]:
    rows = csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8-sig"), newline=""))
    if missing := {_FILE, _TEXT} - set(rows.fieldnames or ()):
        raise ValueError(f"{table} has no column {' and '.join(sorted(missing))}")
    return {row[_FILE]: row[_TEXT] or "" for row in rows}
