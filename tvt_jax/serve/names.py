"""Names of visitors' files, which may be anything: made harmless, and told apart."""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import quote

LONGEST = 100


def clean(name: str) -> str:
    """Give the last part of a path, without what can't be seen or named, of 100 characters at most."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    # Controls, and marks that turn the direction of text; then what Windows doesn't take.
    seen = "".join(char for char in last if unicodedata.category(char)[0] != "C" and char not in '<>:"|?*')
    path = PurePosixPath(seen.strip(" .") or "picture")
    ending = path.suffix[:8]
    return path.stem[: LONGEST - len(ending)] + ending


def distinct(names: Iterable[str]) -> list[str]:
    """Give a number to each name that came before: a.png, a (2).png."""
    taken: dict[str, str] = {}
    for name in names:
        path, count, new = PurePosixPath(name), 1, name
        while new.lower() in taken:
            count += 1
            new = f"{path.stem} ({count}){path.suffix}"
        taken[new.lower()] = new
    return list(taken.values())


def as_attachment(name: str) -> dict[str, str]:
    """Give the header that has a browser save a response by that name (RFC 6266)."""
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
