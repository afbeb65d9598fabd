"""Kinds of pictures, which a report tells apart."""

import csv
import io
from collections.abc import Collection
from pathlib import Path, PurePosixPath


def read_categories(file: Path | None, names: Collection[str]) -> dict[str, str]:
    """Return the category of each image: of a CSV file's lines NAME,CATEGORY, or the folder that it is in.

    Args:
        file: the CSV, without a header, UTF-8; None for folders. Images that it does not name have no category.
        names: of the images.

    Raises:
        FileNotFoundError: the file isn't there.
        ValueError: a line is of another form, or names no image or one for the second time, or there are none.
    """
    if file is None:
        return {name: folder for name in names if (folder := str(PurePosixPath(name).parent)) != "."}
    found = dict[str, str]()
    for row in filter(None, _rows(file)):
        if len(row) != 2 or not row[1]:
            raise ValueError(f"{file}: {','.join(row)!r} is not of the form NAME,CATEGORY")
        if row[0] not in names:
            raise ValueError(f"{file}: there is no image '{row[0]}'; names are such as '{min(names)}'")
        if found.setdefault(*row) != row[1]:
            raise ValueError(f"{file}: '{row[0]}' is both {found[row[0]]} and {row[1]}")
    if not found:
        raise ValueError(f"{file} names no image: it needs a line NAME,CATEGORY for each")
    return found


def _rows(file: Path) -> list[list[str]]:
    try:
        # Spreadsheets begin UTF-8 with a mark.
        return list(csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no CSV file in UTF-8: {error}") from error
