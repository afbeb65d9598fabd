"""One run a workdir: a second one is refused by a sentence that names the first."""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from etils import epath

from tvt_jax import bucket
from tvt_jax.place import Place

LOCK = "run.lock"
BEAT, DEAD = 15.0, 60.0  # seconds between a run's signs of life in a bucket, and without one until it counts as dead
_SETTLED = 1.0  # seconds after which one of two that began at once sees the other

Check = Callable[[], None]
"""Raises OSError where another run has taken the workdir over."""


@contextmanager
def locked(workdir: Place) -> Iterator[Check]:
    """Hold a workdir, which is there, and leave it to the next run at the end; a dead run holds none.

    On disk the system keeps the lock (flock), and drops it with the process. In a bucket the owner writes `run.lock`
    anew every `BEAT` seconds, and counts as dead `DEAD` seconds after the last time, by the bucket's clock.

    Raises:
        OSError: another run holds it.
    """
    with _on_disk(workdir) if isinstance(workdir, Path) else _in_bucket(workdir) as check:
        yield check


@contextmanager
def _on_disk(workdir: Path) -> Iterator[Check]:
    with (workdir / LOCK).open("a+") as file:
        _lock(file, workdir)
        file.truncate(0)
        file.write(json.dumps(_self()) + "\n")
        file.flush()
        yield lambda: None


def _lock(file: IO[str], workdir: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise _taken(workdir, file.read()) from None
    except OSError as error:
        print(f"warning: {workdir} can't be locked ({error.strerror}): see to it that one run alone uses it")


@contextmanager
def _in_bucket(workdir: epath.Path) -> Iterator[Check]:
    path, own = workdir / LOCK, json.dumps(_self() | {"token": secrets.token_hex(8)})
    if found := _read(path):
        age = _age(path)
        if age < DEAD and not _died_here(found):
            raise _taken(workdir, found, f", last heard of {age:.0f} s ago; it counts as dead after {DEAD:.0f} s")
    path.write_text(own)
    time.sleep(_SETTLED)
    if (found := _read(path)) != own:
        raise _taken(workdir, found)
    ended, lost = threading.Event(), threading.Event()
    thread = threading.Thread(target=_beat, args=(path, own, ended, lost), daemon=True)
    thread.start()

    def check() -> None:
        if lost.is_set():
            raise _taken(workdir, _read(path), ", and took it over while nothing was heard of this run")

    try:
        yield check
    finally:
        ended.set()
        thread.join()
        if _read(path) == own:
            path.unlink(missing_ok=True)


def _beat(path: epath.Path, own: str, ended: threading.Event, lost: threading.Event) -> None:
    """Give a sign of life until the end, or until another run has taken over."""
    while not ended.wait(BEAT):
        try:
            if _read(path) != own:
                lost.set()
                return
            path.write_text(own)
        except Exception as error:  # the network's, of many types: the next one may get through
            print(f"warning: {path} could not be written: {error}", flush=True)


def _read(path: epath.Path) -> str:
    bucket.listing(path)
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _age(path: epath.Path) -> float:
    """Tell how many seconds ago an object was written, by the bucket's own clock."""
    clock = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    clock.write_text("")
    try:
        return bucket.modified(clock) - bucket.modified(path)
    finally:
        clock.unlink(missing_ok=True)


def _died_here(found: str) -> bool:
    """Tell whether the owner was a process of this machine that is no more."""
    owner = _parse(found)
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("process"), int):
        return False
    return owner["process"] == os.getpid() or not Path("/proc", str(owner["process"])).exists()


def _self() -> dict[str, Any]:
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since}


def _parse(found: str) -> dict[str, Any]:
    try:
        owner = json.loads(found)
    except ValueError:
        owner = None
    return owner if isinstance(owner, dict) else {}


def _taken(workdir: Place, found: str, more: str = "") -> OSError:
    owner = {"host": "?", "process": "?", "since": "?"} | _parse(found)
    return OSError(
        f"the workdir {workdir} is another run's (host {owner['host']}, process {owner['process']}, since "
        f"{owner['since']}{more}): end that one, or choose another by --workdir"
    )
