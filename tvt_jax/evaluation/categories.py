"""Kinds of pictures, which a report tells apart."""

import csv
from collections.abc import Collection
from pathlib import Path, PurePosixPath


def read_categories(file: Path | None, names: Collection[str]) -> dict[str, str]:
    """Return the category of each image: of a CSV file's lines NAME,CATEGORY, or the folder that it is in.

    Args:
        file: the CSV, without a header; None for folders. Images that it does not name have no category.
        names: of the images.

    Raises:
        FileNotFoundError: the file isn't there.
        ValueError: a line is of another form, or names no image.
    """
    if file is None:
        return {name: folder for name in names if (folder := str(PurePosixPath(name).parent)) != "."}
    found = dict[str, str]()
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines):
            if len(row) != 2:
                raise ValueError(f"{file}: {','.join(row)!r} is not of the form NAME,CATEGORY")
            if row[0] not in names:
                raise ValueError(f"{file}: there is no image '{row[0]}'; names are such as '{min(names)}'")
            found[row[0]] = row[1]
    return found
