"""What is appended to, in a bucket, which knows no appending: written on this machine and copied at intervals."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tvt_jax.bucket import upload
from tvt_jax.place import Place

INTERVAL = 30.0  # seconds between copies that nothing waits for


class Mirror:
    """A folder to write into whose files `copy` puts into a bucket; on disk the target itself, and nothing to copy.

    Attributes:
        folder: where to write.
    """

    def __init__(self, target: Place) -> None:
        self._target = target
        self._copied: dict[Path, tuple[int, int]] = {}
        self._last = time.monotonic()
        if isinstance(target, Path):
            self.folder = target
        else:
            self._temporary = TemporaryDirectory()
            self.folder = Path(self._temporary.name)

    def copy(self, every: float = 0.0) -> None:
        """Copy what has changed, unless that was done less than `every` seconds ago."""
        if isinstance(self._target, Path) or time.monotonic() - self._last < every:
            return
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            about = path.stat()
            now = about.st_size, about.st_mtime_ns
            if self._copied.get(path) != now:
                upload(path, self._target / path.relative_to(self.folder))
                self._copied[path] = now
        self._last = time.monotonic()
