"""A run's checkpoints are scored as they appear: those of the toy run, put into place one by one."""

import json
import os
import shutil
import zlib

import numpy as np
import pytest
from PIL import Image

from proofs.toy import toy_config
from tvt_jax.evaluation import evaluate, restoration
from tvt_jax.evaluation import follow as module
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.model_folder import read_model
from tvt_jax.train import loop

STEPS = ("2", "4", "6")


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished")
    loop.train(toy_config(images, keep=3, evaluation=None), workdir)
    return workdir


class Painter(Upscaler):
    """In place of an upscaler, which the toy's model is not: its result tells which model it is."""

    unet = "there"

    def __init__(self, model):
        kernel = np.asarray(read_model(model).vae["encoder"]["quant_conv"]["kernel"])
        self.colour = list(zlib.crc32(kernel.tobytes()).to_bytes(4))[:3]

    def check_fits(self, height, width):
        pass

    def result_size(self, height, width, scale):
        return height, width

    def upscale(self, image, scale=None, **options):
        return np.broadcast_to(np.uint8(self.colour), image.shape)


@pytest.fixture
def following(finished, images, tmp_path, monkeypatch):
    """Follows a run whose next checkpoint is there after each pause; returns the pauses made."""
    config = tmp_path / "config.py"
    config.write_text("from proofs import toy\n\ndef config():\n    return toy.config()\n")
    monkeypatch.setenv("TOY_IMAGES", str(images))
    monkeypatch.setattr(restoration, "load", lambda model, tile: Painter(model))
    for name in ("lr", "hr"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (90, 120, 150)).save(tmp_path / name / "a.png")
    workdir, appear = tmp_path / "workdir", iter(STEPS)

    def pause(seconds):
        step = next(appear)
        shutil.copytree(finished / "checkpoints" / step, workdir / "checkpoints" / step)
        shutil.copy(finished / "config.json", workdir)

    monkeypatch.setattr(module.time, "sleep", pause)

    def following(*overrides):
        folders = {"lr": tmp_path / "lr", "hr": tmp_path / "hr", "out": tmp_path / "out"}
        return module.follow(workdir, config, overrides, metrics="psnr-y", patience=60.0, **folders)

    return following


def test_every_checkpoint_is_scored_and_the_last_ends_it(following, finished, images, tmp_path, capsys):
    assert following() == 0
    assert f"{tmp_path / 'workdir'} is not there: waiting 60 minutes for a run to begin" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{step}.json" for step in STEPS]
    values = [json.loads((tmp_path / "out" / f"{step}.json").read_text())["images"]["a"]["psnr-y"] for step in STEPS]
    assert len(set(values)) == len(STEPS)
    # The last is the model that training itself wrote.
    assert values[-1] == pytest.approx(psnr_of(finished / "model", tmp_path / "lr" / "a.png"))
    assert not (tmp_path / "workdir" / "model").exists()


def psnr_of(model, path):
    image = np.asarray(Image.open(path))
    return evaluate.choose_metrics("psnr-y")["psnr-y"](Painter(model).upscale(image), image)


def test_it_goes_on_without_scoring_again(following, monkeypatch, capsys):
    following()
    monkeypatch.setattr(Painter, "upscale", lambda self, image: pytest.fail("scored again"))
    assert following() == 0


def test_another_configuration_is_an_error_but_for_its_length(following):
    with pytest.raises(ValueError, match=r"another configuration:\n  config.stage.learning_rate: 0.01 -> 0.1"):
        following("--config.stage.learning_rate=0.1")
    assert following("--config.steps=100") == 0


def test_a_run_that_dies_ends_it(tmp_path, monkeypatch):
    """Lines in the log come for half an hour, then nothing more."""
    now = 0.0
    log = tmp_path / "metrics.jsonl"

    def pause(seconds):
        nonlocal now
        now += seconds
        if now <= 1800:
            log.touch()
            os.utime(log, (now, now))

    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.time, "sleep", pause)
    with pytest.raises(TimeoutError, match=r"no new checkpoint and no line in its log for 60 minutes: .* --patience"):
        module._wait_for_another(None, tmp_path, 60.0)
    assert 1800 + 3600 < now < 1800 + 3600 + 3 * module._PAUSE
