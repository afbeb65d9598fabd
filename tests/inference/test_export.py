"""A model as one program: run by its ten lines in a process without this package, it restores what the package does."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tvt_jax.diffusion import restore_latent
from tvt_jax.inference.export import export_program, main
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.model_folder import write_model


@pytest.fixture
def model(tmp_path, folder):
    write_model(tmp_path / "model", folder)
    return tmp_path / "model"


def test_the_program_runs_without_the_package(tmp_path, model, folder):
    export_program(model, tmp_path / "out", platforms="cpu,cuda,tpu", tile=64)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "in.png")
    # Not the package's folder on the path, nor pytest's: an import of it would fail.
    script = "import sys, runpy; sys.modules['tvt_jax'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-c", script, "run.py", tmp_path / "in.png", tmp_path / "out.png"]
    subprocess.run(command, cwd=tmp_path / "out", env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=True)
    networks, x = Upscaler(folder), picture[None].astype(np.float32) / 127.5 - 1
    clean = restore_latent(networks.vae.to_latent(x), networks.unet, folder.card.time_step)
    expected = np.clip(networks.vae.to_image(clean), -1, 1)
    found = np.asarray(Image.open(tmp_path / "out.png"), np.float32) / 127.5 - 1
    # Half a level from rounding to uint8, and what another order of sums may add.
    assert np.abs(found - expected[0]).max() < 0.51 / 127.5
    about = json.loads((tmp_path / "out" / "program.json").read_text())
    assert (about["tile"], about["platforms"]) == (64, ["cpu", "cuda", "tpu"])


def test_it_takes_any_number_of_images(tmp_path, model, folder):
    from jax import export
    from safetensors.numpy import load_file

    export_program(model, tmp_path / "out", platforms="cpu", tile=32)
    program = export.deserialize(bytearray((tmp_path / "out" / "program.jax").read_bytes()))
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    together = np.asarray(program.call(weights, images))
    alone = np.concatenate([np.asarray(program.call(weights, image[None])) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)  # sums in another order


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "out"], "error: nowhere is not a model folder"),
        (["model", "out", "--tile", "33"], "error: tile=33 must be a multiple of "),
        (["model", "out", "--platforms", "cpu,gpu"], "error: unknown platform 'gpu', choose from cpu,cuda,tpu"),
        (["model", "model"], "error: model is there already: choose another folder"),
    ],
)
def test_what_cannot_be_exported(tmp_path, model, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert capsys.readouterr().err.startswith(message)
    assert not (tmp_path / "out").exists()
