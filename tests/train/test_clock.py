"""Where the time goes: the phases add up to the wall time, over all starts of a run."""

import json
import time

import jax
import pytest

from proofs.toy import toy_config
from tests.train.test_loop import before_batch
from tvt_jax.train import clock as clock_module
from tvt_jax.train import loop
from tvt_jax.train.clock import BEGAN, PHASES, Clock


@pytest.fixture
def at(monkeypatch):
    """Sets the time, in seconds since a start at 0; the system's own clock has an origin of its own."""
    now = 0.0

    def set_time(seconds):
        nonlocal now
        now = seconds

    monkeypatch.setattr(clock_module.time, "monotonic", lambda: 70.0 + now)
    monkeypatch.setattr(clock_module.time, "time", lambda: 1e9 + now)
    return set_time


def nonzero(clock):
    return {phase: seconds for phase, seconds in clock.spent().items() if seconds}


def test_every_moment_is_in_one_phase(at, tmp_path):
    clock = Clock()
    at(3.0)
    clock.resume(None, tmp_path)
    at(10.0)
    with clock.during("evaluating"):
        at(12.0)
        with clock.during("compiling"):
            at(15.0)
        at(16.0)
    at(20.0)
    assert nonzero(clock) == {"starting": 3.0, "steps": 11.0, "evaluating": 3.0, "compiling": 3.0}
    assert clock.shares()["wall/seconds"] == 20.0
    assert clock.shares()["wall/steps"] == 11 / 20
    assert str(clock).startswith("wall time 0.01 h since the first start: steps 55.0%  input 0.0%  saving 0.0%")


def test_a_killed_run_loses_its_unsaved_steps_and_the_time_until_its_next_start(at, tmp_path):
    """Saved after 30 s, killed some time later, started again at 100 s, and loading until 104 s."""
    first = Clock()
    first.resume(None, tmp_path)
    at(30.0)
    saved = json.loads(json.dumps(first.save()))
    at(50.0)
    first.spent()
    at(100.0)
    second = Clock()
    at(104.0)
    second.resume(saved, tmp_path)
    at(110.0)
    assert nonzero(second) == {"steps": 36.0, "starting": 4.0, "lost": 70.0}
    assert second.shares()["wall/seconds"] == 110.0


def test_what_comes_before_the_first_checkpoint_is_lost_too(at, tmp_path):
    for start in (0.0, 40.0, 90.0):
        at(start)
        clock = Clock()
        clock.resume(None, tmp_path)
    at(95.0)
    assert nonzero(clock) == {"steps": 5.0, "lost": 90.0}


def test_only_the_first_process_notes_the_first_start(at, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    Clock().resume(None, tmp_path)
    assert not (tmp_path / BEGAN).exists()


def test_a_damaged_note_of_the_first_start_is_written_anew(at, tmp_path):
    (tmp_path / BEGAN).write_text("")
    Clock().resume(None, tmp_path)
    assert float((tmp_path / BEGAN).read_text()) == 1e9


def test_a_killed_and_resumed_run_accounts_for_all_its_wall_time(images, tmp_path, monkeypatch, capsys):
    """A crash before the sixth batch, after the save of step 4, and a pause: both are lost, and all adds up."""

    def crash():
        time.sleep(0.5)
        raise RuntimeError("crash")

    begin = time.time()
    before_batch(monkeypatch, 6, crash)
    with pytest.raises(RuntimeError, match="crash"):
        loop.train(toy_config(images), tmp_path)
    monkeypatch.undo()
    time.sleep(0.5)
    before_batch(monkeypatch, 1, lambda: time.sleep(0.5))
    loop.train(toy_config(images), tmp_path)
    end = time.time()
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["kind"] == "train"][-1]
    shares = {phase: last[f"wall/{phase}"] for phase in PHASES}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share > 0 for share in shares.values())
    wall = last["wall/seconds"]
    assert shares["lost"] * wall > 1.0
    assert shares["input"] * wall > 0.5
    assert wall < end - begin
    # Left out are the milliseconds before the first clock, and the last save and the model after the last line.
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("wall time ")]
    assert len(printed) == 2 and all(f"{phase} " in printed[1] for phase in PHASES)
