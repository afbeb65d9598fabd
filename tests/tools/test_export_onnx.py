"""A model as one ONNX file restores photos of other sizes than it was traced with as `tvt upscale` does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tvt_jax
from convert.to_torch import export_diffusers
from tools.export_onnx import check, enlarge
from tvt_jax.inference.upscaler import PRETRAINED

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def photo() -> Image.Image:
    with Image.open(ROOT / "examples" / "coffee.jpg") as image:
        return image.convert("RGB").crop((20, 10, 116, 74))


def test_enlarging_is_pillows(photo: Image.Image) -> None:
    import torch

    pixels = torch.from_numpy(np.asarray(photo, np.float32) / 255).permute(2, 0, 1)[None]
    mine = (enlarge(pixels, 4)[0].permute(1, 2, 0) * 255).numpy()
    expected = np.asarray(photo.resize((4 * photo.width, 4 * photo.height), Image.Resampling.BICUBIC), np.float32)
    assert np.abs(mine - expected).max() < 1.01  # what Pillow rounds the other way, by its weights of 22 bits


@pytest.mark.parametrize(
    ("name", "value"), [("posterior", "sample"), ("prediction", "residual"), ("smallest_side", 512)]
)
def test_models_that_ask_for_more_are_refused(name: str, value: object) -> None:
    check({"color_fix": "adain"})
    with pytest.raises(ValueError, match=f"the model's {name} is {value!r}"):
        check({"color_fix": "adain", name: value})


@pytest.mark.slow
def test_the_file_restores_as_tvt_upscale_does(tmp_path: Path, photo: Image.Image) -> None:
    pytest.importorskip("onnx", reason="comes with the extra 'test'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="comes with the extra 'bench'")
    export_diffusers(PRETRAINED, tmp_path / "FOLDER")
    command = [sys.executable, "tools/export_onnx.py", tmp_path / "FOLDER", tmp_path / "tvt.onnx"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "cache")}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    session = onnxruntime.InferenceSession(tmp_path / "tvt.onnx", providers=["CPUExecutionProvider"])
    pixels = (np.asarray(photo, np.float32) / 255).transpose(2, 0, 1)[None]
    large = np.rint(session.run(None, {"image": pixels})[0][0].transpose(1, 2, 0) * 255)
    error = large - tvt_jax.load().upscale(photo)
    # Attention sees less of the photo's reflection there; a wrong norm, step or colour is far below this.
    assert 10 * np.log10(255**2 / np.square(error).mean()) > 40
