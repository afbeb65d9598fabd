import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from toy import toy_config

from tvt_jax.train import metrics
from tvt_jax.train.metrics import Log, Timer


def steps_logged(workdir):
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_an_interval_is_the_mean_of_its_steps_one_interval_late(tmp_path, images, capsys):
    with Log(tmp_path, Timer(), 0, toy_config(images, steps=6)) as log:
        for step in (1, 2, 3):
            log.step(step, {"loss": jnp.float32(step)})
        assert steps_logged(tmp_path) == []
        log.step(4, {"loss": jnp.float32(4)})
        assert steps_logged(tmp_path) == [2]
        assert "step 2/6  loss 1.5" in capsys.readouterr().out
        log.flush(4)
        assert steps_logged(tmp_path) == [2, 4]
    entry = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1])
    assert (entry["kind"], entry["loss"]) == ("train", 3.5)
    assert entry["images_per_s"] == pytest.approx(4 * entry["steps_per_s"])


def test_the_step_of_a_nan_is_named(tmp_path, images):
    with Log(tmp_path, Timer(), 0, toy_config(images)) as log:
        log.step(1, {"loss": jnp.float32(1), "l1": jnp.float32(1)})
        log.step(2, {"loss": jnp.float32(np.inf), "l1": jnp.float32(np.nan)})
        with pytest.raises(FloatingPointError, match="l1 is nan, loss is inf at step 2"):
            log.flush(2)
        log.step(3, {"loss": jnp.float32(np.nan), "l1": jnp.float32(1)})
        with pytest.raises(FloatingPointError, match="loss is nan at step 3"):
            log.flush(3)


def test_entries_after_the_resumed_step_and_a_torn_line_are_dropped(tmp_path, images):
    entries = [{"kind": kind, "step": step} for step in (2, 4, 6) for kind in ("train", "evaluate")]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"kind": "tr')
    with Log(tmp_path, Timer(), 4, toy_config(images)) as log:
        assert log.evaluated == 4
    assert steps_logged(tmp_path) == [2, 2, 4, 4]


def test_pictures_are_laid_out_as_a_grid(tmp_path, images):
    values = np.linspace(-1, 1, 5)[:, None, None, None]
    pictures = np.broadcast_to(values, (5, 2, 3, 3)).astype(np.float32)
    with Log(tmp_path, Timer(), 0, toy_config(images)) as log:
        log.evaluation(7, {"psnr": 20.0}, {"ours": pictures})
    grid = np.asarray(Image.open(tmp_path / "images" / "step_000007_ours.png"))
    assert grid.shape == (4, 9, 3)
    np.testing.assert_array_equal(grid[::2, ::3, 0], [[0, 64, 128], [191, 255, 0]])


def test_the_timer_stands_still_while_paused(monkeypatch):
    now = 100.0
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now)
    timer = Timer(5.0)
    now += 1
    with timer.paused():
        now += 10
        assert timer.seconds == 6
    now += 2
    assert timer.seconds == 8
