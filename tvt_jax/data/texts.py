"""Texts beside photos, which say what they show: FILE.jpg.txt, FILE.txt, or a row of the folder's metadata.csv."""

import csv
import os
from pathlib import Path
from typing import Any

from tvt_jax.place import Place

TABLE = "metadata.csv"  # as Hugging Face's ImageFolder names it and its columns
_FILE, _TEXT = "file_name", "text"


def text_file(photo: Path) -> Path:
    """Give the file that `tvt_jax.data.caption` writes a photo's text to."""
    return photo.with_name(f"{photo.name}.txt")


class Texts:
    """The texts of the photos below a folder: a photo's own file counts before the table."""

    def __init__(self, root: Place) -> None:
        """Read the table, if there is one.

        Raises:
            ValueError: it lacks a column, or this is no folder on this machine.
        """
        if not isinstance(root, Path) or not root.is_dir():
            raise ValueError(
                f"{root} is no folder on this machine, and only there are texts read beside photos: name one, or tiles "
                "that tvt_jax.data.prepare made of one"
            )
        self._root = root
        self._table: dict[str, str] = {}
        if (root / TABLE).is_file():
            with (root / TABLE).open(newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file)
                if missing := {_FILE, _TEXT} - set(rows.fieldnames or ()):
                    raise ValueError(f"{root / TABLE} has no column {' and '.join(sorted(missing))}")
                self._table = {row[_FILE]: row[_TEXT] or "" for row in rows}

    def __getitem__(self, photo: Any) -> str:
        """Give a photo's text on one line; an empty one where it has none."""
        for file in (text_file(photo), photo.with_suffix(".txt")):
            if os.path.isfile(file):  # unlike the method, also of a name that is too long
                return _one_line(file.read_text(encoding="utf-8", errors="replace"))
        return _one_line(self._table.get(photo.relative_to(self._root).as_posix(), ""))


def _one_line(text: str) -> str:
    return " ".join(text.split())
