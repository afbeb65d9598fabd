"""Commands side by side, each on a device of its own; they end when this process does."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import IO

_GRACE = 300.0  # seconds that a run has to save its state


@dataclass(frozen=True)
class Task:
    """A command, and what it is called.

    Attributes:
        name: for people.
        words: of the command.
    """

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class _Running:
    task: Task
    process: subprocess.Popen
    errors: IO[bytes]

    def failure(self) -> str | None:
        """Pass on what it wrote to its standard error, and give the last line of it if it failed."""
        with self.errors:
            self.errors.seek(0)
            told = self.errors.read().decode(errors="replace")
        sys.stderr.write(told)
        if not self.process.returncode:
            return None
        last = next((line for line in reversed(told.splitlines()) if line.strip()), "")
        return f"{self.task.name}: exit status {self.process.returncode}: {last}".rstrip(": ")


def run_all(tasks: Sequence[Task], jobs: int) -> list[str]:
    """Run all, `jobs` at a time, each of several on a GPU or TPU chip of its own; return the failures in a line each.

    A signal that ends this process (Ctrl-C, SIGTERM, SIGHUP) ends those that run by SIGTERM, and waits for them.
    """
    waiting, failures = list(tasks), list[str]()
    running: dict[int, _Running] = {}
    with _ended_by_signals():
        try:
            while waiting or running:
                for place in [place for place in range(jobs) if place not in running][: len(waiting)]:
                    running[place] = _start(waiting.pop(0), place, jobs)
                for place, run in list(running.items()):
                    if run.process.poll() is not None:
                        failures += [failure] if (failure := running.pop(place).failure()) else []
                time.sleep(0.05)
        finally:
            for run in running.values():
                run.process.terminate()
            for run in running.values():
                _wait(run.process)
                run.failure()
    return failures


def _start(task: Task, place: int, jobs: int) -> _Running:
    errors = tempfile.TemporaryFile()  # noqa: SIM115, `failure` closes it
    environment = os.environ | (_device(place) if jobs > 1 else {})
    print(f"{task.name} begins", flush=True)
    # In a group of its own: Ctrl-C reaches this process alone, which ends it by SIGTERM.
    return _Running(task, subprocess.Popen(task.words, env=environment, stderr=errors, start_new_session=True), errors)


def _device(place: int) -> dict[str, str]:
    """Show one device of those that this process may see; a CPU is shared by all."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    name = seen[place % len(seen)] if seen != [""] else str(place)
    one_chip = {"TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1", "TPU_PROCESS_BOUNDS": "1,1,1"}
    return {"CUDA_VISIBLE_DEVICES": name, "TPU_VISIBLE_CHIPS": str(place), **one_chip}


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn what would end this process at once into an exception."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(process: subprocess.Popen) -> None:
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
