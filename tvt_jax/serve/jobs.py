"""One picture is worked on at a time; visitors take turns, so that one with forty doesn't keep another waiting."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tvt_jax.serve.work import Ask

State = Literal["waiting", "working", "done", "failed"]


class GivenUp(Exception):
    """The visitor doesn't want it any more."""


@dataclass(eq=False, kw_only=True)
class Job:
    """A picture, or a part of one, to be restored.

    Attributes:
        visitor: whose it is.
        ask: what is asked for.
        pixels: of the result.
        run: does it, and hears of steps by `report`.
        error: a sentence, where it failed.
        share: of the work that is done, where that is known.
        begun: when it was begun, by the clock of `time.monotonic`.
    """

    visitor: str
    ask: Ask
    pixels: int
    run: Callable[["Job"], None]
    state: State = "waiting"
    error: str = ""
    share: float = 0.0
    begun: float = 0.0
    _given_up: threading.Event = field(default_factory=threading.Event)

    @property
    def open(self) -> bool:
        """Whether it waits or is worked on."""
        return self.state in ("waiting", "working")

    def report(self, done: int, total: int) -> None:
        """Hear of steps that are done; raise GivenUp to end the work."""
        self.share = done / total
        self.check()

    def check(self) -> None:
        """Raise GivenUp if the visitor doesn't want it any more."""
        if self._given_up.is_set():
            raise GivenUp

    def give_up(self) -> None:
        """End it at its next step, or before it begins."""
        self._given_up.set()


class Queue:
    """Jobs that wait, the one that is worked on, and how long they take."""

    def __init__(self) -> None:
        self._turns: dict[str, deque[Job]] = {}
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        # Seconds a pixel of the result, by model: what is left is told by it until steps tell better.
        self._pace: dict[str, float] = {}
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """End the work, at the next step of what is worked on."""
        with self._changed:
            self._closed = True
            for job in [*self._in_order(), *filter(None, [self._running])]:
                job.give_up()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def put(self, job: Job) -> None:
        """Have a job wait for its turn."""
        with self._changed:
            self._turns.setdefault(job.visitor, deque()).append(job)
            self._changed.notify_all()

    def ahead(self, job: Job) -> int:
        """Count the jobs that come before one that waits, the running one included."""
        with self._changed:
            return len(self._before(job))

    def seconds_left(self, job: Job) -> float | None:
        """Guess in how many seconds a job is done; None while nothing tells."""
        with self._changed:
            needed = [self._seconds(job) for job in [*self._before(job), job]]
        known = [seconds for seconds in needed if seconds is not None]
        return sum(known) if len(known) == len(needed) else None

    def _before(self, job: Job) -> list[Job]:
        if job.state != "waiting":
            return []
        running = [self._running] if self._running else []
        waiting = list(self._in_order())
        return running + waiting[: waiting.index(job)] if job in waiting else running

    def _in_order(self) -> Iterator[Job]:
        turns = [list(jobs) for jobs in self._turns.values()]
        for i in range(max(map(len, turns), default=0)):
            yield from (jobs[i] for jobs in turns if i < len(jobs))

    def _seconds(self, job: Job) -> float | None:
        taken = time.monotonic() - job.begun if job.state == "working" else 0.0
        if job.share:
            return taken * (1 - job.share) / job.share
        pace = self._pace.get(job.ask.model)
        return None if pace is None else max(pace * job.pixels - taken, 0.0)

    def _take(self) -> Job | None:
        """Give the next job, whose visitor then comes last; None once all is to end."""
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._turns or self._closed)
            if self._closed:
                return None
            visitor = next(iter(self._turns))
            jobs = self._turns.pop(visitor)
            self._running = job = jobs.popleft()
            job.state, job.begun = "working", time.monotonic()
            if jobs:
                self._turns[visitor] = jobs
            return job

    def _work(self) -> None:
        while job := self._take():
            try:
                job.check()
                job.run(job)
                self._pace[job.ask.model] = (time.monotonic() - job.begun) / job.pixels
                job.state = "done"
            except GivenUp:
                job.state = "failed"
            # Decoders and XLA raise what they like, and the next visitor's picture shall not suffer from it.
            except Exception as error:
                job.error = str(error).strip().split("\n")[0] or type(error).__name__
                job.state = "failed"
