"""Turns and guesses of time, without a server."""

import pytest

from tvt_jax.serve.jobs import Job, Queue
from tvt_jax.serve.work import Ask


def job(visitor, pixels=100, model="one"):
    ask = Ask(model=model, scale=4, color_fix="none")
    return Job(visitor=visitor, ask=ask, pixels=pixels, run=lambda job: None)


def test_visitors_take_turns():
    queue = Queue()
    jobs = [job(visitor) for visitor in "aaabac"]
    for each in jobs:
        queue.put(each)
    a1, a2, a3, b1, a4, c1 = jobs
    order = [a1, b1, c1, a2, a3, a4]
    assert [queue.ahead(each) for each in order] == list(range(6))
    assert [queue._take() for _ in order] == order


def test_time_left_goes_by_earlier_ones_until_steps_tell_better(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tvt_jax.serve.jobs.time.monotonic", lambda: now[0])
    queue = Queue()
    running, waiting, unknown = job("a"), job("b", pixels=300), job("c", model="two")
    for each in (running, waiting, unknown):
        queue.put(each)
    assert queue._take() is running
    assert queue.seconds_left(running) is None and queue.seconds_left(waiting) is None
    queue._pace["one"] = 0.1
    now[0] += 4
    assert queue.seconds_left(running) == pytest.approx(10 - 4)
    assert queue.seconds_left(waiting) == pytest.approx(6 + 30)
    assert queue.seconds_left(unknown) is None
    running.report(1, 5)
    assert queue.seconds_left(running) == pytest.approx(16)
