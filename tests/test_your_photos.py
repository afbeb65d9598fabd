"""docs/your_photos.md: its commands run as they are printed, on photos made up here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.inference.upscaler import PRETRAINED
from tvt_jax.model_folder import read_model
from tvt_jax.train.command import _parser
from tvt_jax.train.config import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "your_photos.md").read_text(encoding="utf-8")
TRY, TRAIN = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def clone(tmp_path):
    """The repository, as far as the commands need it, with photos of one's own in it."""
    for name in ("configs", "tvt_jax", "train.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    random = np.random.default_rng(0)
    for folder in ("train", "held_out"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        small = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        small.resize((128, 96), Image.Resampling.BICUBIC).save(tmp_path / "photos" / folder / "photo.png")
    return tmp_path


@pytest.mark.slow
def test_the_trial_runs_as_printed(clone):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # Nearly all the time goes into compiling, so it is done with little optimisation.
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    subprocess.run(["bash", "-ec", TRY], cwd=clone, check=True, env=environment)
    with Image.open(clone / "results" / "try" / "photo.png") as result:
        assert result.size == (512, 384)
    before, after = read_model(PRETRAINED), read_model(clone / "runs" / "try" / "model")
    assert (after.vae_config, after.unet_config) == (before.vae_config, before.unet_config)
    same = ("scale", "time_step", "prediction", "posterior", "color_fix", "prompt")
    assert all(getattr(after.card, name) == getattr(before.card, name) for name in same)
    np.testing.assert_array_equal(after.prompt_embedding, before.prompt_embedding)


def test_the_training_differs_from_the_trial_by_its_settings_alone():
    assert [line.split(" --config.")[0].replace("try", "yours") for line in TRY.splitlines()] == TRAIN.splitlines()


@pytest.mark.parametrize("changes", re.findall(r"`(--config\.[^`]+)`", PAGE))
def test_what_the_page_changes_can_be_changed(monkeypatch, changes):
    monkeypatch.chdir(ROOT)
    if "=" in changes:
        words = re.findall(r'(--config\.[\w.]+=)(?:"([^"]*)"|(\S+))', changes)
        parsed, overrides = _parser().parse_known_args(
            ["--config=configs/yours.py", "--workdir=W", *("".join(parts) for parts in words)]
        )
        assert load_config(parsed.config, overrides).steps
