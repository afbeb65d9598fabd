"""A trace of a few steps, by jax's profiler."""

from typing import Any

import jax

from tvt_jax.place import Place
from tvt_jax.train.mirror import Mirror


def parse_steps(text: str) -> range:
    """Read FIRST:LAST, the steps that are to be traced, LAST not among them.

    Raises:
        ValueError: it is something else.
    """
    first, _, last = text.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f"--profile={text} is not of the form FIRST:LAST, like 10:15")
    return range(int(first), int(last))


class Profile:
    """A trace of `steps`, by every process, in `folder`: `xprof FOLDER` or TensorBoard shows it."""

    def __init__(self, folder: Place, steps: range | None) -> None:
        """Trace nothing before `at` is called with the first of the steps; without steps, nothing ever."""
        self._folder, self._steps, self._running = folder, steps, False

    def at(self, step: int, state: Any) -> None:
        """Start or stop the trace; the device finishes what it works on first, so that the trace has whole steps."""
        if self._steps and step == self._steps.start:
            jax.block_until_ready(state)
            self._mirror = Mirror(self._folder)
            jax.profiler.start_trace(str(self._mirror.folder))
            self._running = True
        elif self._steps and step == self._steps.stop:
            self._stop(state)

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        """End a trace that a short run would cut off."""
        self._stop(None)

    def _stop(self, state: Any) -> None:
        if self._running:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._mirror.copy()
            self._running = False
            print(f"wrote the trace to {self._folder}", flush=True)
