"""Visitors' pictures, held for as long as they are wanted: on the disk, but under no name there."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tvt_jax.serve.blob import Blob
from tvt_jax.serve.jobs import Job
from tvt_jax.serve.views import View
from tvt_jax.serve.work import Restored

# Pictures of all visitors together: each holds a few files open, and systems allow a thousand or so.
MOST = 200


class Full(Exception):
    """No more pictures are taken."""


@dataclass(eq=False, kw_only=True)
class Held:
    """A visitor's picture, and what was made of it.

    Attributes:
        size: height and width, upright.
        warnings: about its file.
        until: when it is forgotten, by the store's clock.
        downloaded: whether it was, and is forgotten soon whatever its visitor does.
        views: how many there were, the last included.
    """

    key: str
    visitor: str
    name: str
    data: Blob
    small: Blob
    size: tuple[int, int]
    warnings: list[str]
    until: float
    downloaded: bool = False
    job: Job | None = None
    view: View | None = None
    restored: Restored | None = None
    views: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def finish(self, view: View, restored: Restored | None) -> None:
        """Take what a job made in place of what was there."""
        with self._lock:
            self.views += 1
            old = [self.view, self.restored if restored else None]
            self.view, self.restored = view, restored or self.restored
            if self._closed:
                old = [self.view, self.restored]
            _close(*old)

    def close(self) -> None:
        """Free all of it, and give up what is worked on."""
        with self._lock:
            self._closed = True
            if self.job:
                self.job.give_up()
            _close(self.data, self.small, self.view, self.restored)


class Store:
    """All pictures that are held."""

    def __init__(self, keep: float, keep_downloaded: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Hold pictures for `keep` seconds after their page was heard of, and so many after their download."""
        self._keep, self._keep_downloaded, self._clock = keep, keep_downloaded, clock
        self._held: dict[str, Held] = {}

    def add(self, visitor: str, name: str, data: Blob, small: Blob, size: tuple[int, int], warnings: list[str]) -> Held:
        """Hold a picture.

        Raises:
            Full: too many are held.
        """
        self.check_room()
        key = secrets.token_urlsafe(16)
        until = self._clock() + self._keep
        held = Held(
            key=key, visitor=visitor, name=name, data=data, small=small, size=size, warnings=warnings, until=until
        )
        self._held[key] = held
        return held

    def check_room(self) -> None:
        """Raise Full if no more are taken."""
        if len(self._held) >= MOST:
            raise Full

    def get(self, key: str) -> Held:
        """Give a picture; raise KeyError if it isn't held any more."""
        return self._held[key]

    def of(self, visitor: str) -> list[Held]:
        """Give a visitor's pictures, whose page has just been heard of."""
        found = [held for held in self._held.values() if held.visitor == visitor]
        for held in found:
            if not held.downloaded:
                held.until = self._clock() + self._keep
        return found

    def downloaded(self, held: Held) -> None:
        """Hold a picture a little longer only: for another strength, or a download that broke off."""
        if not held.downloaded:
            held.downloaded, held.until = True, self._clock() + self._keep_downloaded

    def forget(self, held: Held) -> None:
        """Free a picture and all that was made of it."""
        if self._held.pop(held.key, None):
            held.close()

    def sweep(self) -> None:
        """Forget what is held for long enough."""
        for held in [*self._held.values()]:
            if held.until < self._clock() and not (held.job and held.job.open):
                self.forget(held)

    def close(self) -> None:
        """Forget all."""
        for held in [*self._held.values()]:
            self.forget(held)


def _close(*blobs: Blob | View | Restored | None) -> None:
    for blob in blobs:
        if blob is not None:
            blob.close()
