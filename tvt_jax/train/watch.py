"""A run that stands still says so, and where: the stacks of all its threads go into the workdir."""

import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import jax

from tvt_jax.files import write_whole
from tvt_jax.place import Place

_LOOKS = 10  # within the time that a run may stand still


class Watch:
    """Within the `with`, a thread that writes `workdir/stacks/` where no step is taken for so many minutes.

    Every process has its own, since hosts seldom stand still at the same line. The run itself goes on.
    """

    def __init__(self, workdir: Place, minutes: float, step: int) -> None:
        """Begin after `step`."""
        self._folder, self._limit, self._step = workdir / "stacks", 60 * minutes, step
        self._last = self._written = time.monotonic()
        self._allowed: str | None = None
        self._seen: set[str] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def step(self, step: int) -> None:
        """Note that a step was taken."""
        self._step = step
        self._last = self._written = time.monotonic()

    @contextmanager
    def first(self, what: str) -> Iterator[None]:
        """Allow all the time in the world within the `with`, the first time for each `what`: that compiles."""
        if what in self._seen:
            yield
            return
        self._seen.add(what)
        self._allowed = what
        try:
            yield
        finally:
            self.step(self._step)
            self._allowed = None

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._limit / _LOOKS):
            if self._allowed is None and time.monotonic() - self._written > self._limit:
                self._written = time.monotonic()
                self._write()

    def _write(self) -> None:
        minutes = (time.monotonic() - self._last) / 60
        process = jax.process_index()
        path = self._folder / f"{datetime.now():%Y%m%d_%H%M%S}_process_{process}.txt"
        print(
            f"no step for {minutes:.3g} minutes, after step {self._step}: process {process} on {socket.gethostname()} "
            f"writes the stacks of all its threads to {path}, and goes on waiting",
            flush=True,
        )
        try:
            write_whole(path, _stacks())
        except Exception as error:  # of many types; what the run waits for may be the very storage
            print(f"warning: {path} could not be written: {error}", file=sys.stderr, flush=True)
            print(_stacks(), file=sys.stderr, flush=True)


def _stacks() -> str:
    """Give all threads' stacks, the main thread's first; faulthandler ends after a hundred threads."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sorted(sys._current_frames().items(), key=lambda item: item[0] != main)
    return "\n".join(
        f"thread {names.get(ident, ident)}\n" + "".join(traceback.format_stack(frame)) for ident, frame in frames
    )
