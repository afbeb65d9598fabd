"""Requests to stop: SIGTERM and Ctrl-C in one process, the scheduler's notice on many hosts."""

import signal
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class StopSignals:
    """Within the `with`, a first SIGTERM or Ctrl-C is noted instead of ending the process; a second one ends it.

    Attributes:
        received: the signal's number, or None.
    """

    def __init__(self) -> None:
        """Catch nothing before the `with` is entered."""
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Catch the signals; on many hosts jax.distributed already does, so that all hosts agree on a step."""
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the former handlers back."""
        self._restore()

    def requested(self, step: int) -> bool:
        """Tell whether to save and stop now, at `step`; every host gets the same answer."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.received = signal.SIGTERM
        return self.received is not None

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = number
        print(f"{signal.Signals(number).name}: saving after this step (again: stop at once)", flush=True)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
