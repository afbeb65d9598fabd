"""From a bare data folder to a model in its place: every step is run, and what is done is not done again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.text_folder import write_text
from tools import pretrain
from tvt_jax.model_folder import read_model
from tvt_jax.train.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stage", pretrain.STAGES)
def test_every_change_is_one_that_the_stage_takes(tmp_path, stage):
    changes = list(pretrain.changes(stage, tmp_path / "data", tmp_path / "runs", pretrain.Length()))
    changed = load_config(ROOT / "configs" / "tiny" / f"{stage}.py", changes)
    assert changed.steps == load_config(ROOT / "configs" / "tiny" / f"{stage}.py").steps
    assert changed.data.path == str(tmp_path / "data" / "tiles")
    sources = [value for name, value in vars(changed.stage).items() if name.endswith("source") and value]
    assert all(str(value).startswith(str(tmp_path / "runs")) for value in sources)


def test_each_stage_starts_from_those_before_it(tmp_path):
    before: set[str] = set()
    for stage in pretrain.STAGES:
        config = load_config(ROOT / "configs" / "tiny" / f"{stage}.py", [])
        sources = {Path(v).parts[-2] for n, v in vars(config.stage).items() if n.endswith("source") and v}
        assert sources <= before
        before.add(stage)


def test_no_stage_sees_the_border_in_its_norms():
    for stage in pretrain.STAGES:
        assert load_config(ROOT / "configs" / "tiny" / f"{stage}.py").stage.compute.norm_margin == 1 / 16


def test_batches_grow_and_steps_shrink_with_the_length(tmp_path):
    length = pretrain.Length(budget=pretrain.HOURS / 2, batches=16)
    for stage in pretrain.STAGES:
        before = load_config(ROOT / "configs" / "tiny" / f"{stage}.py")
        after = load_config(
            ROOT / "configs" / "tiny" / f"{stage}.py", list(pretrain.changes(stage, tmp_path, tmp_path, length))
        )
        assert after.data.batch == 16 * before.data.batch
        assert after.steps == before.steps / 2 == after.stage.optimizer.decay_until


def test_another_length_does_not_go_on_with_runs(tmp_path):
    pretrain.require_length(tmp_path, pretrain.Length(budget=2.0))
    pretrain.require_length(tmp_path, pretrain.Length(budget=2.0))
    for other in (pretrain.Length(budget=3.0), pretrain.Length(budget=2.0, batches=4)):
        with pytest.raises(ValueError, match=r"was begun with --budget 2 --batches 1: go on with that, or choose"):
            pretrain.require_length(tmp_path, other)


@pytest.fixture
def data(tmp_path):
    """Photos of noise on ramps, and pages in place of drawn ones, as the fetching tools lay them out."""
    generator = np.random.default_rng(0)
    for folder in ("photos/train", "photos/held_out", "text/held_out"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(2):
            ramp = np.linspace(0, 200, 320)[:, None, None] + generator.integers(0, 55, (320, 320, 3))
            Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "data" / folder / f"{i}.png")
    manifest = {"photos": [{"licence": "MIT"}, {"licence": "CC0-1.0"}, {"licence": "MIT"}]}
    (tmp_path / "data/photos/manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "data"


def start(data, tmp_path, cache):
    paths = [f"--data={data}", f"--runs={tmp_path / 'runs'}", f"--out={tmp_path / 'model'}"]
    command = [sys.executable, "tools/pretrain.py", f"--budget={2 / 60}", *paths]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | cache, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.bench
def test_two_minutes_run_it_all_and_go_on_after_a_kill(data, tmp_path):
    """Two minutes of training, that is; compiling seven stages takes a quarter of an hour, so it is run by hand."""
    write_text(data / "text")
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    killed = start(data, tmp_path, cache)
    while not (tmp_path / "runs" / "decoder" / "checkpoints").is_dir():
        assert killed.poll() is None
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    whole = start(data, tmp_path, cache)
    printed, _ = whole.communicate(timeout=1500)
    assert whole.returncode == 0
    assert f"done: trained to step 14, the model is in {tmp_path / 'runs' / 'vae' / 'model'}" in printed
    model = read_model(tmp_path / "model")
    assert model.unet is not None
    card = (tmp_path / "model" / "README.md").read_text()
    assert "--budget 0.0333333 --batches 1" in card and "MIT 2, CC0-1.0 1" in card
    assert all(f"| {stage} |" in card for stage in pretrain.STAGES)
    assert (tmp_path / "model" / "curves.png").stat().st_size > 10_000
    again = start(data, tmp_path, cache)
    printed, _ = again.communicate(timeout=600)
    assert (again.returncode, printed.count("done: trained to step")) == (0, len(pretrain.STAGES))
