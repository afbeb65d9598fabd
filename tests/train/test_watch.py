"""A run that stands still: its stacks lie in the workdir, and it goes on."""

import dataclasses
import threading
import time

import jax
import pytest

from proofs.toy import ToyStage, toy_config
from tvt_jax.train import loop
from tvt_jax.train import watch as watch_module
from tvt_jax.train.watch import Watch


def written(workdir):
    return sorted((workdir / "stacks").glob("*")) if (workdir / "stacks").exists() else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class StallingStage(ToyStage):
    """Stands still in the fourth step, as a device does that waits for another."""

    seconds: float

    def step(self, state, frozen, batch, rng):
        new, metrics = super().step(state, frozen, batch, rng)

        def stand_still(step, loss):
            if step == 3:
                time.sleep(self.seconds)
            return loss

        shape = jax.ShapeDtypeStruct((), metrics["loss"].dtype)
        return new, {"loss": jax.pure_callback(stand_still, shape, state.step, metrics["loss"])}


def test_a_stalling_run_writes_its_stacks_says_so_and_goes_on(images, tmp_path, capsys):
    config = toy_config(images, stage=StallingStage(seconds=3.0), stall_minutes=1 / 60, data_shards=1)
    assert loop.train(config, tmp_path) == 0
    stacks = "".join(path.read_text() for path in written(tmp_path))
    assert "stand_still" in stacks and "in _loop" in stacks
    out = capsys.readouterr().out
    assert "minutes, after step " in out and f"to {written(tmp_path)[0]}, and goes on waiting" in out
    assert "step 6/6" in out


def test_it_is_quiet_while_steps_come_and_while_the_first_of_a_kind_compiles(tmp_path):
    with Watch(tmp_path, 0.6 / 60, 0) as watch:
        for what in ("step", "evaluation"):
            with watch.first(what):
                time.sleep(0.9)
        for step in range(10):
            time.sleep(0.1)
            watch.step(step)
    assert not written(tmp_path)


def test_the_second_of_a_kind_is_watched(tmp_path, capsys):
    with Watch(tmp_path, 0.2 / 60, 41) as watch:
        with watch.first("evaluation"):
            pass
        watch.step(42)
        with watch.first("evaluation"):
            time.sleep(0.5)
    assert written(tmp_path)
    assert "after step 42: process 0 on " in capsys.readouterr().out


def test_every_process_writes_its_own_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    with Watch(tmp_path, 0.1 / 60, 0):
        while len(written(tmp_path)) < 2:
            time.sleep(0.1)
    assert {path.name[15:] for path in written(tmp_path)} == {"_process_3.txt"}


def test_where_the_workdir_cannot_be_written_the_stacks_are_printed(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError("Stale file handle")

    monkeypatch.setattr(watch_module, "write_whole", refuse)
    with Watch(tmp_path, 0.1 / 60, 0):
        time.sleep(0.3)
    error = capsys.readouterr().err
    assert "could not be written: Stale file handle" in error and "test_watch.py" in error


def test_the_main_thread_is_written_among_hundreds(tmp_path):
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait, name=f"worker {i}") for i in range(300)]
    for thread in threads:
        thread.start()
    try:
        with Watch(tmp_path, 0.1 / 60, 0):
            while not written(tmp_path):
                time.sleep(0.1)
    finally:
        ended.set()
    stacks = written(tmp_path)[0].read_text()
    assert stacks.startswith("thread MainThread\n") and "in test_the_main_thread_is_written_among" in stacks
    assert "thread worker 299\n" in stacks


def test_minutes_that_make_no_sense(images):
    with pytest.raises(ValueError, match=r"stall_minutes=0.0 must be positive"):
        toy_config(images, stall_minutes=0.0)
