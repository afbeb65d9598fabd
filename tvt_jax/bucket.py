"""What buckets lack, made up for: whole folders, and what lies below them, listed anew each time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from etils import epath


@contextmanager
def uploaded(target: epath.Path, last: str = "") -> Iterator[Path]:
    """Give a local folder to write into, which takes the place of `target` once all is written.

    A bucket cannot rename: `last`, the file that says that a folder is whole, goes first and comes back last.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary, target.name)
        folder.mkdir()
        yield folder
        files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        if last:
            (target / last).unlink(missing_ok=True)
        for path in files_below(target):
            if path.relative_to(target) not in files:
                path.unlink(missing_ok=True)
        for file in sorted(files, key=lambda file: file.as_posix() == last):
            upload(folder / file, target / file)


def upload(source: Path, target: epath.Path) -> None:
    """Copy a file into a bucket, where it is seen once it is whole."""
    with source.open("rb") as file, target.open("wb") as out:
        shutil.copyfileobj(file, out, 16 << 20)


def files_below(folder: epath.Path) -> dict[epath.Path, int]:
    """List all files below a folder, sorted, with their sizes in bytes; there need be none."""
    files = listing(folder).find(str(folder), detail=True)
    found = {epath.Path(f"gs://{name}"): int(about["size"]) for name, about in files.items()}
    return {path: size for path, size in sorted(found.items()) if path != folder}


def remove(folder: epath.Path) -> None:
    """Remove a folder, if it is there."""
    for path in files_below(folder):
        path.unlink(missing_ok=True)


def listing(path: epath.Path) -> Any:
    """Give the file system that a path lies on, without what it remembers of it: other hosts write there too."""
    import fsspec

    system = fsspec.filesystem(path.as_uri().partition(":")[0], finalize_on_close=True)
    system.invalidate_cache()
    return system


def modified(path: epath.Path) -> float:
    """Tell when a file was written last, by the bucket's clock, in seconds since 1970."""
    return listing(path).info(str(path))["mtime"].timestamp()
