"""The exported pipeline in stock diffusers beside ours: the same pixels."""

import json
import re
import runpy
import sys
from dataclasses import replace

import diffusers
import numpy as np
import pytest
from diffusers import DiffusionPipeline
from diffusers.utils import dynamic_modules_utils
from PIL import Image
from safetensors.numpy import load_file

from convert.to_torch import export_diffusers
from tests.convert.small import UNET as SD_UNET
from tests.convert.small import VAE, VAE_D4, random_tensors
from tvt_jax.colour import COLOR_FIXES
from tvt_jax.inference import plan
from tvt_jax.inference.upscaler import PRETRAINED, Upscaler
from tvt_jax.model_folder import ModelCard, ModelFolder, read_model, write_model
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK

# Without attention on the finest grid, of which a test would take a minute.
UNET = replace(SD_UNET, down_block_types=(PLAIN_BLOCK, CROSS_ATTENTION_BLOCK))
PROMPT = np.random.default_rng(3).standard_normal((5, 6), np.float32)
SAMPLED = ModelCard(scale=3, smallest_side=96, time_step=300, posterior="sample", color_fix="wavelet")


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """Diffusers keeps a copy of the pipeline, by default in the user's home."""
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


@pytest.fixture
def photo():
    rows, columns = np.mgrid[:64, :64] / 64
    pixels = np.stack([rows, columns, np.sin(9 * rows * columns) ** 2], axis=-1)
    return Image.fromarray((255 * pixels).astype(np.uint8))


def load(folder):
    pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline=str(folder), trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def small(tmp_path, card, vae=VAE_D4):
    """A random model in Stable Diffusion's shape; weights of a third, so that numbers keep their size."""
    tensors = {name: x / 3 for name, x in random_tensors(vae, 1).items()}
    model = ModelFolder(
        card=card,
        vae_config=vae,
        vae=tree_from_torch(tensors),
        unet_config=UNET,
        unet=tree_from_torch({name: x / 3 for name, x in random_tensors(UNET, 2).items()}),
        prompt_embedding=PROMPT,
    )
    write_model(tmp_path / "model", model)
    export_diffusers(tmp_path / "model", tmp_path / "out")
    return Upscaler(model), load(tmp_path / "out")


def enlarged(photo, scale):
    large = photo.resize((photo.width * scale, photo.height * scale), Image.Resampling.BICUBIC)
    return np.asarray(large, np.float32) / 127.5 - 1


def shrink(pipe, monkeypatch, side=32):
    """Let both work on smaller canvases, for the time's sake."""
    monkeypatch.setattr(plan, "SMALLEST_WHOLE", side)
    monkeypatch.setattr(sys.modules[type(pipe).__module__], "SMALLEST", side)


def assert_same(ours, pipe, photo, scale):
    """Compare pixels in [-1, 1] by each colour fix; the networks run once."""
    x = enlarged(photo, scale)
    restored = ours.restore(x[None])[0]
    plain = pipe(photo, color_fix="none", output_type="np").images[0]
    assert plain.shape == x.shape and restored.std() > 0.05
    pipe._restore = lambda *inputs: 2 * plain - 1
    for fix, correct in COLOR_FIXES.items():
        result = 2 * pipe(photo, color_fix=fix, output_type="np").images[0] - 1
        # float32 in both, and sums in another order: 1.2e-6 was measured with the embedded model.
        np.testing.assert_allclose(result, correct(restored, x).clip(-1, 1), rtol=0, atol=1e-4, err_msg=fix)


@pytest.mark.parametrize(("vae", "posterior", "prediction"), [(VAE, "mean", "residual"), (VAE_D4, "sample", "noise")])
def test_a_model_of_random_weights_gives_the_same(tmp_path, photo, monkeypatch, vae, posterior, prediction):
    card = ModelCard(scale=2, time_step=300, posterior=posterior, prediction=prediction)
    ours, pipe = small(tmp_path, card, vae)
    shrink(pipe, monkeypatch)
    assert_same(ours, pipe, photo.crop((0, 0, 31, 18)), 2)  # A size that fits no grid.


@pytest.mark.slow
def test_the_card_is_followed(tmp_path, photo, monkeypatch):
    ours, pipe = small(tmp_path, SAMPLED)
    shrink(pipe, monkeypatch)
    photo = photo.crop((0, 0, 20, 25))  # Smaller than the smallest side: enlarged first, and resized back.
    result = np.asarray(pipe(photo).images[0]).astype(int)
    # Where a float lies between two levels its last bit decides.
    assert np.abs(result - ours.upscale(photo)).max() <= 1
    # Random weights make little of a prompt; the same one would give the same to the bit.
    assert (result != np.asarray(pipe(photo, prompt_embeds=pipe._prompt() + 1).images[0])).any()


def test_tiles_meet_without_a_seam(tmp_path, photo, monkeypatch):
    _, pipe = small(tmp_path, ModelCard(scale=4, color_fix="none"))
    shrink(pipe, monkeypatch, side=136)
    wide = photo.resize((66, 10), Image.Resampling.BICUBIC)  # 132 latent pixels of this VAE, and three tiles of 96.
    whole = np.asarray(pipe(wide).images[0]).astype(int)
    tiled = np.asarray(pipe(wide, tile=96).images[0]).astype(int)
    steps = [np.abs(np.diff(x, axis=1)).max() for x in (whole, tiled)]
    assert (whole != tiled).any() and steps[1] <= steps[0] + 3


def test_what_is_not_known_is_refused(tmp_path, photo):
    _, pipe = small(tmp_path, ModelCard())
    for wrong in ({"color_fix": "hue"}, {"tile": 64}, {"output_type": "latent"}):
        with pytest.raises(ValueError, match="is not known"):
            pipe(photo, **wrong)


def test_a_diffusers_that_would_add_attention_is_refused(tmp_path, monkeypatch):
    export_diffusers(PRETRAINED, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "vae" / "config.json").read_text())
    assert written["mid_block_add_attention"] is False
    tensors = load_file(tmp_path / "out" / "vae" / "diffusion_pytorch_model.safetensors")
    assert not any(".attentions." in name for name in tensors)
    for version in ("0.30.0", "1.0.0.dev0"):
        monkeypatch.setattr(diffusers, "__version__", version)
        runpy.run_path(str(tmp_path / "out" / "pipeline.py"))
    for version in ("0.29.2", "0.9.0"):
        monkeypatch.setattr(diffusers, "__version__", version)
        with pytest.raises(ImportError, match=rf"diffusers 0\.30 or newer, and {re.escape(version)} is"):
            runpy.run_path(str(tmp_path / "out" / "pipeline.py"))


@pytest.mark.slow
def test_the_embedded_model_gives_the_same(tmp_path, photo):
    export_diffusers(PRETRAINED, tmp_path / "out")
    assert_same(Upscaler(read_model(PRETRAINED)), load(tmp_path / "out"), photo, 4)
