"""Writing gigabytes: apart from what is read, with room for them looked for first, and no trace of a run that ended."""

import errno
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def room_for(target: Path, needed: int) -> Iterator[None]:
    """Look for room on the disk of `target`, and say the same where it runs out in between.

    Args:
        target: what will be written.
        needed: its size in bytes.

    Raises:
        OSError: there is too little; the message has the path and the bytes needed.
    """
    place = next(folder for folder in (target.absolute(), *target.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OSError(f"{target} needs {needed:,} bytes, and there are {free:,} free: nothing was written")
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            f"{target} needs {needed:,} bytes, and the disk or its quota was full before that: what was written is "
            "gone again"
        ) from error


def check_apart(out: Path, source: Path) -> None:
    """Check that writing `out` leaves the folder it is made of as it is.

    Raises:
        ValueError: `out` is that folder, or lies within it.
    """
    if out.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{out} is {source} or lies within it, which stays as it is: name another place")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that what it was writing is taken away."""
    before = {ending: signal.signal(ending, _end) for ending in _ENDINGS}
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
