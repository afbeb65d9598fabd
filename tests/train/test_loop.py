import dataclasses
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from proofs.toy import ToyStage, toy_config
from tvt_jax.model_folder import read_model
from tvt_jax.train import loop
from tvt_jax.train.checkpoint import restore
from tvt_jax.train.log import SPEED
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh


def final_state(config, workdir):
    """The newest checkpoint of a run, on the host."""
    program = Program(config, make_mesh(config.data_shards, config.fsdp_shards), config.stage.load())
    state, host = restore(workdir / "checkpoints", program.state)
    return jax.device_get(state), host


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def entries(workdir):
    """The log without times."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in SPEED} for line in lines]


@pytest.fixture(scope="module")
def straight(images, tmp_path_factory):
    """Six steps without interruption: workdir, state and position."""
    workdir = tmp_path_factory.mktemp("straight")
    assert loop.train(toy_config(images), workdir) == 0
    return workdir, *final_state(toy_config(images), workdir)


class Scripted:
    """The data iterator, doing something before a given batch."""

    def __init__(self, iterator, batch, action):
        self._iterator, self._count, self._batch, self._action = iterator, 0, batch, action

    def __next__(self):
        self._count += 1
        if self._count == self._batch:
            self._action()
        return next(self._iterator)

    def __getattr__(self, name):
        return getattr(self._iterator, name)


def before_batch(monkeypatch, batch, action):
    """Does `action` when the loop asks for its n-th batch of training data."""
    make = loop.make_iterator
    calls = iter(range(10))
    training_call = 1  # the held-out batches are read first

    def scripted(*arguments):
        iterator = make(*arguments)
        return Scripted(iterator, batch, action) if next(calls) == training_call else iterator

    monkeypatch.setattr(loop, "make_iterator", scripted)


def test_a_run_leaves_its_model_log_and_pictures(straight):
    workdir, state, _ = straight
    assert {path.name for path in workdir.iterdir()} == {
        *("began.txt", "checkpoints", "config.json", "images", "metrics.jsonl", "model", "run.lock", "tensorboard")
    }
    written = read_model(workdir / "model").vae["encoder"]["quant_conv"]["kernel"]
    np.testing.assert_array_equal(written[0, 0], state.ema["model"]["down"]["kernel"])
    logged = [(entry["kind"], entry["step"]) for entry in entries(workdir)]
    expected = [("evaluate", 0), ("train", 2), ("evaluate", 3), ("train", 4), ("train", 6), ("evaluate", 6)]
    assert sorted(logged) == sorted(expected)
    assert sorted(path.name for path in (workdir / "images").iterdir()) == [
        f"step_{step:06d}_clean.png" for step in (0, 3, 6)
    ]
    assert state.step == 6


def test_the_toy_learns(straight):
    evaluations = [entry["mse"] for entry in entries(straight[0]) if entry["kind"] == "evaluate"]
    assert evaluations[-1] < 0.5 * evaluations[0]


def test_a_resumed_run_has_the_same_bits(images, tmp_path, straight):
    loop.train(toy_config(images, steps=4), tmp_path)
    loop.train(toy_config(images), tmp_path)
    state, host = final_state(toy_config(images), tmp_path)
    assert_same_bits(state, straight[1])
    assert host["data"] == straight[2]["data"]
    kept = [entry for entry in entries(tmp_path) if (entry["kind"], entry["step"]) != ("evaluate", 4)]
    assert sorted(kept, key=str) == sorted(entries(straight[0]), key=str)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_next_run_goes_on(images, tmp_path, straight, monkeypatch, capsys, number):
    before_batch(monkeypatch, 4, lambda: signal.raise_signal(number))
    assert loop.train(toy_config(images), tmp_path) == number
    assert f"stopped by {number.name} at step 4, saved" in capsys.readouterr().out
    assert not (tmp_path / "model").exists()
    monkeypatch.undo()
    assert loop.train(toy_config(images), tmp_path) == 0
    assert_same_bits(final_state(toy_config(images), tmp_path)[0], straight[1])


def test_handlers_are_put_back(images, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    loop.train(toy_config(images), tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_crash_loses_only_what_came_after_the_last_save(images, tmp_path, straight, monkeypatch):
    def crash():
        raise RuntimeError("crash")

    before_batch(monkeypatch, 6, crash)
    with pytest.raises(RuntimeError, match="crash"):
        loop.train(toy_config(images), tmp_path)
    assert final_state(toy_config(images), tmp_path)[0].step == 4
    monkeypatch.undo()
    loop.train(toy_config(images), tmp_path)
    assert_same_bits(final_state(toy_config(images), tmp_path)[0], straight[1])
    assert sorted(entries(tmp_path), key=str) == sorted(entries(straight[0]), key=str)


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (1, 4), (2, 2)])
def test_the_result_does_not_depend_on_the_devices(images, tmp_path, straight, data, fsdp):
    config = toy_config(images, data_shards=data, fsdp_shards=fsdp)
    loop.train(config, tmp_path)
    # Sums over devices are taken in another order: a few units in the last place.
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(compare, final_state(config, tmp_path)[0], straight[1])


def test_a_checkpoint_is_restored_onto_other_devices(images, tmp_path, straight):
    loop.train(toy_config(images, steps=4, data_shards=2, fsdp_shards=2), tmp_path)
    loop.train(toy_config(images, data_shards=1, fsdp_shards=1), tmp_path)
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # noqa: E731
    jax.tree.map(compare, final_state(toy_config(images), tmp_path)[0], straight[1])


def test_a_nan_is_skipped_and_told(images, tmp_path, capsys):
    config = toy_config(images, stage=ToyStage(nan_at=5), log_every=1)
    loop.train(config, tmp_path)
    assert "step 5  skipped: loss is nan\n" in capsys.readouterr().out
    of_step = {line["step"]: line for line in entries(tmp_path) if line["kind"] == "train"}
    assert of_step[5]["skipped"] == 1.0 and "loss" not in of_step[5]
    assert "skipped" not in of_step[6] and np.isfinite(of_step[6]["loss"])


def test_a_skipped_step_changes_nothing(images, tmp_path):
    config = toy_config(images, stage=ToyStage(nan_at=6))
    loop.train(config, tmp_path / "skipped")
    loop.train(toy_config(images, steps=5), tmp_path / "before")
    skipped, before = (final_state(config, tmp_path / name)[0] for name in ("skipped", "before"))
    assert (skipped.step, before.step) == (6, 5)
    assert_same_bits(skipped.replace(step=5), before.replace(step=5))


def test_too_many_in_a_row_stop_the_run_and_keep_the_last_good_checkpoint(images, tmp_path):
    config = toy_config(images, stage=ToyStage(nan_at=5), skippable=0)
    with pytest.raises(FloatingPointError, match=r"1 steps in a row .* is step 5; the last good checkpoint is .*/4$"):
        loop.train(config, tmp_path)
    assert final_state(config, tmp_path)[0].step == 4


def test_a_trace_of_some_steps(images, tmp_path):
    loop.train(toy_config(images), tmp_path, range(2, 4))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_nothing_is_compiled_after_step_two(images, tmp_path, monkeypatch):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    counts = []
    before_batch(monkeypatch, 4, lambda: counts.append(len(compiled)))
    monkeypatch.setattr(loop, "_write_model", lambda *_, **__: None)
    try:
        loop.train(toy_config(images, evaluate_every=2, steps=8), tmp_path)
    finally:
        jax.monitoring.clear_event_listeners()
    assert counts[0] > 0
    assert len(compiled) == counts[0]


def test_a_finished_run_only_writes_a_missing_model(images, tmp_path, capsys):
    config = toy_config(images, steps=2)
    loop.train(config, tmp_path)
    before = final_state(config, tmp_path)[0]
    loop.train(config, tmp_path)
    assert "done: trained to step 2" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "model")
    loop.train(config, tmp_path)
    assert read_model(tmp_path / "model").card.scale == 4
    assert_same_bits(final_state(config, tmp_path)[0], before)


def test_export_in_the_middle_of_a_run(images, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        loop.export(toy_config(images), tmp_path)
    loop.train(toy_config(images, steps=4), tmp_path)
    shutil.rmtree(tmp_path / "model")
    loop.export(toy_config(images), tmp_path)
    kernel = final_state(toy_config(images), tmp_path)[0].ema["model"]["down"]["kernel"]
    np.testing.assert_array_equal(read_model(tmp_path / "model").vae["encoder"]["quant_conv"]["kernel"][0, 0], kernel)


def test_another_config_in_the_same_workdir(images, tmp_path, capsys):
    loop.train(toy_config(images, steps=2), tmp_path)
    loop.train(toy_config(images, steps=3, stage=ToyStage(learning_rate=0.5)), tmp_path)
    assert "config.stage.learning_rate: 0.01 -> 0.5" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"another model: 8 arrays differ.*float32\[3, 64\] there, float32\[3, 8\]"):
        loop.train(toy_config(images, steps=4, stage=ToyStage(width=8)), tmp_path)


def test_a_batch_that_does_not_split(images, tmp_path):
    config = toy_config(images)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, batch=3))
    with pytest.raises(ValueError, match=r"--config\.data\.batch=3 does not split over 4 devices"):
        loop.train(config, tmp_path)


def test_an_evaluation_batch_that_does_not_split_is_told_before_anything_is_loaded(images, tmp_path, monkeypatch):
    config = toy_config(images)
    config = dataclasses.replace(config, evaluation=dataclasses.replace(config.data, batch=6))
    monkeypatch.setattr(ToyStage, "load", lambda _: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=r"--config\.evaluation\.batch=6 does not split over 4 devices"):
        loop.train(config, tmp_path)


def test_the_best_checkpoint_outlives_the_newer_ones_and_is_exported(images, tmp_path, monkeypatch):
    """An evaluation that finds step 3 the best: it is saved there though no save is due, and kept through a restart."""
    monkeypatch.setattr(Program, "evaluate", lambda self, state, _: ({"mse": abs(int(state.step) - 3) + 1.0}, {}))
    config = toy_config(images, save_every=4, keep=1, best="mse")
    loop.train(dataclasses.replace(config, steps=5), tmp_path)
    loop.train(dataclasses.replace(config, steps=8), tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "8"]
    assert loop.export(config, tmp_path, tmp_path / "best", best=True) == 3
    assert loop.export(config, tmp_path, tmp_path / "newest") == 8
    models = [read_model(tmp_path / name).vae["encoder"]["quant_conv"]["kernel"] for name in ("best", "newest")]
    assert (models[0] != models[1]).any()


def test_the_best_by_what_is_not_evaluated(images, tmp_path):
    with pytest.raises(ValueError, match="best='lpips' is not among what is evaluated: mse"):
        loop.train(toy_config(images, best="lpips"), tmp_path)
    with pytest.raises(ValueError, match="best='mse' needs evaluation images"):
        toy_config(images, best="mse", evaluation=None)
    with pytest.raises(ValueError, match="--export=best needs a metric"):
        loop.export(toy_config(images), tmp_path, best=True)
