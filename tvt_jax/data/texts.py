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
            ValueError: it is no such table, or this is no folder on this machine and has no table.
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

    def __contains__(self, photo: Any) -> bool:
        """Tell whether a photo has a text, be it an empty one."""
        return self._own_file(photo) is not None or self._name(photo) in self._table

    def __getitem__(self, photo: Any) -> str:
        """Give a photo's text on one line; an empty one where it has none."""
        if file := self._own_file(photo):
            return one_line_of(file.read_text(encoding="utf-8-sig", errors="replace"))
        return one_line_of(self._table.get(self._name(photo), ""))

    def _own_file(self, photo: Any) -> Path | None:
        files = (text_file(photo), photo.with_suffix(".txt")) if self._beside else ()
        # Unlike the method, also of a name that is too long.
        return next((file for file in files if os.path.isfile(file)), None)

    def _name(self, photo: Any) -> str:
        """Give what the table calls a photo."""
        inside = isinstance(photo, Path) == isinstance(self._root, Path) and photo.is_relative_to(self._root)
        return photo.relative_to(self._root).as_posix() if inside else str(photo)


def one_line_of(text: str) -> str:
    """Give a text with single spaces in place of line breaks and other white space."""
    return " ".join(text.split())


def _on_this_machine(root: Place) -> bool:
    return isinstance(root, Path) and root.is_dir()


def _table_of(root: Place) -> Place:
    return (root.parent if root.suffix == ".txt" and not root.is_dir() else root) / TABLE


def _read_table(table: Place) -> dict[str, str]:
    texts: dict[str, str] = {}
    try:
        rows = csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8-sig"), newline=""))
        if missing := {_FILE, _TEXT} - set(rows.fieldnames or ()):
            raise ValueError(f"{table} has no column {' and '.join(sorted(missing))}")
        for row in rows:
            name, text = row[_FILE], row[_TEXT] or ""
            if None in row:
                raise ValueError(
                    f"{table}, line {rows.line_num}: {name} has more columns than the first line: put a text with "
                    "commas into double quotes"
                )
            if texts.setdefault(name, text) != text:
                raise ValueError(f"{table}, line {rows.line_num}: {name} has another text above")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is not a table in UTF-8: {error}") from None
    return texts
