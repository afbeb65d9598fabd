import json
import sys
from types import ModuleType

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from proofs.toy import toy_config
from tvt_jax.train import clock as clock_module
from tvt_jax.train import log as log_module
from tvt_jax.train import loop
from tvt_jax.train.chips import Work
from tvt_jax.train.clock import Clock
from tvt_jax.train.log import Log


def logged(loss):
    """What a program gives of a step."""
    return {"loss": jnp.float32(loss), "skipped": jnp.float32(not np.isfinite(loss))}


def started(workdir):
    """A run's clock once it takes steps."""
    clock = Clock()
    clock.resume(None, workdir)
    return clock


def steps_logged(workdir):
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_an_interval_is_the_mean_of_its_steps_one_interval_late(tmp_path, images, capsys):
    with Log(tmp_path, started(tmp_path), 0, toy_config(images, steps=6)) as log:
        for step in (1, 2, 3):
            log.step(step, logged(step))
        assert steps_logged(tmp_path) == []
        log.step(4, logged(4))
        assert steps_logged(tmp_path) == [2]
        assert "step 2/6  loss 1.5" in capsys.readouterr().out
        log.flush(4)
        assert steps_logged(tmp_path) == [2, 4]
    entry = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])
    assert (entry["kind"], entry["loss"]) == ("train", 3.5)
    assert entry["images_per_s"] == pytest.approx(4 * entry["steps_per_s"])


def test_the_use_of_each_device(tmp_path, images, monkeypatch):
    """Two steps of two seconds on two devices that can do twice the work."""
    now = 0.0
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: now)
    with Log(tmp_path, started(tmp_path), 0, toy_config(images, steps=2)) as log:
        log.compiled(Work(flops=3e12, devices=2, peak=3e12))
        for step in (1, 2):
            now += 2
            log.step(step, logged(step))
        log.flush(2)
    entry = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (entry["images_per_s_per_device"], entry["tflops_per_s_per_device"], entry["utilisation"]) == (1.0, 1.5, 0.5)
    assert entry.keys() - {"kind", "step", "loss"} <= set(log_module.SPEED)


def test_skipped_steps_are_named_once_and_counted_in_a_row(tmp_path, images, capsys):
    with Log(tmp_path, started(tmp_path), 0, toy_config(images, skippable=2, log_every=2)) as log:
        for step, loss in enumerate([np.inf, 1, np.nan, np.nan], 1):
            log.step(step, logged(loss))
            log.flush(step)
        log.step(5, logged(np.nan))
        with pytest.raises(FloatingPointError, match="3 steps in a row were skipped, the last is step 5"):
            log.flush(5)
    named = [line for line in capsys.readouterr().out.splitlines() if "skipped:" in line]
    assert named == [f"step {step}  skipped: loss is {'inf' if step == 1 else 'nan'}" for step in (1, 3, 4, 5)]


def test_the_share_of_time_that_batches_were_waited_for(tmp_path, images, monkeypatch):
    now = 0.0
    monkeypatch.setattr(clock_module.time, "monotonic", lambda: now)
    clock = started(tmp_path)
    with Log(tmp_path, clock, 0, toy_config(images, steps=2)) as log:
        for step in (1, 2):
            now += 1.5
            with clock.during("input"):
                now += 0.5
            log.step(step, logged(step))
        log.flush(2)
    entry = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (entry["data_wait"], entry["steps_per_s"]) == (0.25, 0.5)


def test_entries_after_the_resumed_step_and_a_torn_line_are_dropped(tmp_path, images):
    entries = [{"kind": kind, "step": step} for step in (2, 4, 6) for kind in ("train", "evaluate")]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"kind": "tr')
    with Log(tmp_path, started(tmp_path), 4, toy_config(images)) as log:
        assert log.evaluated == 4
    assert steps_logged(tmp_path) == [2, 2, 4, 4]


def test_a_damaged_line_costs_itself_alone_and_is_said(tmp_path, images, capsys):
    lines = [json.dumps({"kind": "train", "step": step}) for step in (1, 2, 3)]
    log = tmp_path / "metrics.jsonl"
    log.write_bytes("\n".join([lines[0], lines[1][:9], "[]", lines[2], ""]).encode() + b"\xff\n")
    with Log(tmp_path, started(tmp_path), 4, toy_config(images)):
        assert steps_logged(tmp_path) == [1, 3]
    error = capsys.readouterr().err.splitlines()
    assert error == [f"warning: line {number} of {log} is damaged, and is left out" for number in (2, 3, 5)]


def test_pictures_are_laid_out_as_a_grid(tmp_path, images):
    values = np.linspace(-1, 1, 5)[:, None, None, None]
    pictures = np.broadcast_to(values, (5, 2, 3, 3)).astype(np.float32)
    with Log(tmp_path, started(tmp_path), 0, toy_config(images)) as log:
        log.evaluation(7, {"psnr-rgb": 20.0}, {"ours": pictures})
    grid = np.asarray(Image.open(tmp_path / "images" / "step_000007_ours.png"))
    assert grid.shape == (4, 9, 3)
    np.testing.assert_array_equal(grid[::2, ::3, 0], [[0, 64, 128], [191, 255, 0]])


class FakeWandb(ModuleType):
    """Takes the place of wandb, which is no requirement: notes what it is told."""

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.logged, self.finished = [], [], 0
        self.Image = lambda pixels: pixels.shape

    def init(self, **options):
        self.runs.append(options)
        return self

    def log(self, values):
        self.logged.append(values)

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def finish(self):
        self.finished += 1


def test_weights_and_biases_gets_the_same_and_a_resumed_run_goes_on_there(tmp_path, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", fake := FakeWandb())
    config = toy_config(images, steps=4, wandb="project")
    for start in (0, 2):
        with Log(tmp_path, started(tmp_path), start, config) as log:
            for step in (start + 1, start + 2):
                log.step(step, logged(step))
            log.flush(start + 2)
    with Log(tmp_path, started(tmp_path), 4, config) as log:
        log.evaluation(4, {"psnr-rgb": 20.0}, {"ours": np.zeros((2, 4, 4, 3), np.float32)})
    first, *others = fake.runs
    assert (first["project"], first["resume"], first["name"]) == ("project", "allow", tmp_path.name)
    assert first["config"]["steps"] == 4 and len(first["id"]) == 8
    assert all(other["id"] == first["id"] for other in others) and len(others) == 2
    written = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
    assert [entry["step"] for entry in fake.logged] == [2, 4, 4, 4]
    for sent, entry in zip(fake.logged, written, strict=False):
        kind = entry["kind"]
        values = {name: value for name, value in entry.items() if name not in ("kind", "step", "seconds", "machine")}
        assert sent == {"step": entry["step"]} | {f"{kind}/{name}": value for name, value in values.items()}
    assert fake.logged[-1] == {"step": 4, "ours": (4, 8, 3)}
    assert fake.finished == 3


def test_weights_and_biases_is_not_installed(tmp_path, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"wandb is not installed: pip install 'tvt-jax\[wandb\]'"):
        loop.train(toy_config(images, wandb="project"), tmp_path / "w")
    assert not (tmp_path / "w").exists()
