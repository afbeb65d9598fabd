"""Bytes on the disk without a name there: the system frees them when they are closed, and when the process dies."""

import tempfile
import threading
from collections.abc import Iterator

_CHUNK = 1 << 20


class Blob:
    """A file without a name, which several threads may read."""

    def __init__(self, data: bytes | memoryview = b"") -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115, it is open for as long as the bytes are wanted
        self._lock = threading.Lock()
        self.append(data)

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end."""
        with self._lock:
            self.file.seek(0, 2)
            self.file.write(data)

    def read(self) -> bytes:
        """Read all of it."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """Read it piece by piece."""
        position = 0
        while data := self._at(position):
            yield data
            position += len(data)

    def __len__(self) -> int:
        with self._lock:
            return self.file.seek(0, 2)

    def close(self) -> None:
        """Free it."""
        with self._lock:
            self.file.close()

    def _at(self, position: int) -> bytes:
        with self._lock:
            self.file.seek(position)
            return self.file.read(_CHUNK)
