"""Files and folders that are there whole or not at all."""

import errno
import fcntl
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tvt_jax import bucket
from tvt_jax.place import Place

_PART, _OLD = ".part", ".old"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a file to write, which takes the place of `path` once all is written; the folders above it are made.

    It is hidden, so that a folder's listing passes it by, and beside `path`, so that the replacement is one rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of its own name, so that it is never too long where that of `path` isn't.
    partial = path.with_name(f".{uuid.uuid4().hex}{_PART}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Try to write a file in the place of `path`; what may be there stays, and the folders above it are made.

    Raises:
        ValueError: it can't be done, in one sentence.
    """
    made: list[Path] = []
    try:
        made += [folder for folder in path.parents if not folder.exists()]
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{uuid.uuid4().hex}{_PART}")
        partial.touch()
        partial.unlink()
    except OSError as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise ValueError(f"{path} can't be written: {_why(path, error)}") from None


def _why(path: Path, error: OSError) -> str:
    """Say in words what the system says of a file that it doesn't write."""
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        file = next(folder for folder in path.parents if folder.is_file())
        return f"{file} is a file, not a folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path.parent} is read-only"
    return error.strerror.lower() if error.strerror else str(error)


def write_whole(path: Place, content: str | bytes) -> None:
    """Write a file whole or not at all, text as UTF-8, and the folders above it."""
    if not isinstance(path, Path):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_folder(path: Place, last: str = "") -> Iterator[Path]:
    """Give a folder to write into, which takes the place of `path` once all is written.

    It is hidden, beside `path`, and locked while its writer lives: what a killed one left there is taken away first.
    In a bucket, the file `last` is what tells that the folder is whole.
    """
    if not isinstance(path, Path):
        with bucket.uploaded(path, last) as folder:
            yield folder
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent))
    lock = _locked(partial)
    try:
        partial.chmod(0o755)
        yield partial
        if path.exists():
            path.rename(partial.with_suffix(_OLD))
        partial.rename(path)
    finally:
        _clear(path, partial)
        if lock is not None:
            os.close(lock)


def _remove_leftovers(path: Path) -> None:
    name = f".{glob.escape(path.name)}.????????"
    found = (folder for suffix in (_PART, _OLD) for folder in path.parent.glob(name + suffix))
    for partial in {folder.with_suffix(_PART) for folder in found}:
        lock = _locked(partial)
        if lock is not None or not partial.exists():
            _clear(path, partial)
        if lock is not None:
            os.close(lock)


def _clear(path: Path, partial: Path) -> None:
    """Take away what a writer leaves, and give back the older folder where it had not been replaced yet."""
    old = partial.with_suffix(_OLD)
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)


def _locked(folder: Path) -> int | None:
    """Lock a folder until the descriptor is closed, or this process ends; None where another process has done so."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def files_below(folder: Place) -> list[Place]:
    """List all files below a folder, sorted, at any depth; there need be none."""
    if not isinstance(folder, Path):
        return list(bucket.files_below(folder))
    # Unlike rglob, it passes by a folder that another process takes away meanwhile.
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(path for path in files if path.is_file())


def sizes(folder: Place, files: Iterable[Place]) -> list[int | None]:
    """Tell the sizes in bytes of files below a folder; None of what cannot be looked at."""
    if not isinstance(folder, Path):
        listed = bucket.files_below(folder)
        return [listed.get(file) for file in files]
    return [_size(file) for file in files]


def _size(file: Place) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def remove(path: Place) -> None:
    """Remove a folder and all in it, if it is there."""
    if isinstance(path, Path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        bucket.remove(path)


def modified(path: Place) -> float:
    """Tell when a file was written last, in seconds since 1970; a bucket tells it of files alone."""
    return path.stat().st_mtime if isinstance(path, Path) else bucket.modified(path)
