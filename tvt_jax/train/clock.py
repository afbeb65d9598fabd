"""Where the time of a run goes, over its whole life: also that between its starts, and of steps that were lost."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax

from tvt_jax.files import write_whole
from tvt_jax.place import Place

PHASES = ("steps", "input", "saving", "evaluating", "compiling", "starting", "lost")
SHARES = ("wall/seconds", *(f"wall/{phase}" for phase in PHASES))
BEGAN = "began.txt"  # for a run that is killed before its first checkpoint


class Clock:
    """Seconds of every phase of a run, in all its starts; it is always in one of them, so that they add up.

    `lost` is what lies between a start and the checkpoint that it goes on from: steps that were not saved, and the
    time until the run was started again. `starting` lasts until the loop begins.
    """

    def __init__(self) -> None:
        """Begin with `starting`."""
        self._began = time.time()
        self._spent = dict.fromkeys(PHASES, 0.0)
        self._phase, self._since = "starting", time.monotonic()

    def resume(self, saved: dict[str, Any] | None, workdir: Place) -> None:
        """Add what was spent until the checkpoint, as `save` gave it, if there is one; from here on it is steps."""
        before, at = (saved["spent"], saved["at"]) if saved else ({}, _first_start(workdir, self._began))
        for phase, seconds in before.items():
            self._spent[phase] += seconds
        self._spent["lost"] += max(self._began - at, 0.0)
        self._enter("steps")

    def save(self) -> dict[str, Any]:
        """Give what a checkpoint keeps, fit for JSON."""
        return {"spent": self.spent(), "at": time.time()}

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Be in another phase within the `with`."""
        before = self._phase
        self._enter(phase)
        try:
            yield
        finally:
            self._enter(before)

    def spent(self) -> dict[str, float]:
        """Return the seconds of each phase until now."""
        self._enter(self._phase)
        return dict(self._spent)

    def shares(self) -> dict[str, float]:
        """Return the seconds since the first start (`wall/seconds`), and the share of them of each phase."""
        spent = self.spent()
        wall = max(sum(spent.values()), 1e-9)
        return dict(zip(SHARES, (wall, *(seconds / wall for seconds in spent.values())), strict=True))

    def __str__(self) -> str:
        """Say it in a line."""
        wall, *shares = self.shares().values()
        parts = "  ".join(f"{phase} {share:.1%}" for phase, share in zip(PHASES, shares, strict=True))
        return f"wall time {wall / 3600:.2f} h since the first start: {parts}"

    def _enter(self, phase: str) -> None:
        now = time.monotonic()
        self._spent[self._phase] += now - self._since
        self._phase, self._since = phase, now


def trained(spent: dict[str, float]) -> float:
    """Return the seconds of training among those spent: steps, and waiting for their input."""
    return spent["steps"] + spent["input"]


def _first_start(workdir: Place, now: float) -> float:
    """Tell when the run was started for the first time, in seconds since 1970; note it, if that is now."""
    path = workdir / BEGAN
    with suppress(FileNotFoundError, ValueError):
        return float(path.read_text())
    if jax.process_index() == 0:
        write_whole(path, f"{now}\n")
    return now
