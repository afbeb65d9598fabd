"""Bytes on the disk without a name there: the system frees them when they are closed, and when the process dies."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_CHUNK = 1 << 20


class Blob:
    """A file without a name, which several threads may read."""

    def __init__(self, data: bytes = b"") -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, it is open for as long as the bytes are wanted
        self._lock = threading.Lock()
        try:
            self.append(data)
        except BaseException:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        """Write at the end."""
        with self.opened() as file:
            file.seek(0, 2)
            file.write(data)

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Give the file, at its beginning, to one thread at a time."""
        with self._lock:
            self._file.seek(0)
            yield self._file

    def read(self) -> bytes:
        """Read all of it."""
        with self.opened() as file:
            return file.read()

    def chunks(self) -> Iterator[bytes]:
        """Read it piece by piece."""
        position = 0
        while data := self._at(position):
            yield data
            position += len(data)

    @property
    def closed(self) -> bool:
        """Whether it is freed."""
        return self._file.closed

    def close(self) -> None:
        """Free it."""
        with self._lock:
            self._file.close()

    def _at(self, position: int) -> bytes:
        with self.opened() as file:
            file.seek(position)
            return file.read(_CHUNK)
