"""docs/pytorch.md: its scripts run as they are printed."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tvt_jax
from convert.to_torch import export_diffusers
from tvt_jax.inference.upscaler import PRETRAINED
from tvt_jax.model_folder import read_card

PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"
PHOTO = Path(__file__).parents[2] / "examples" / "coffee.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    export_diffusers(PRETRAINED, folder / "FOLDER")
    with Image.open(PHOTO) as image:
        photo = image.convert("RGB").crop((20, 10, 84, 74))
    photo.save(folder / "photo.png")
    photo.save(folder / "photo.jpg")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("script", "name"), [(0, "photo.jpg"), (1, "photo.png")])
def test_the_script_runs_as_printed(folder, script, name, monkeypatch):
    (text,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[script : script + 1]
    subprocess.run([sys.executable, "-c", text], cwd=folder, check=True, env={"HF_HOME": str(folder / "cache")})
    with Image.open(folder / name) as photo, Image.open(folder / "large.png") as large:
        result, photo = np.asarray(large).astype(float), photo.copy()
    fix = read_card(PRETRAINED).color_fix if script == 0 else "adain"
    expected = tvt_jax.load(color_fix=fix).upscale(photo)
    if script == 0:
        assert np.abs(result - expected).max() <= 1
    else:
        # The plain recipe differs where a picture ends, and by what its norms see: a wrong step or scale is far below.
        assert 10 * np.log10(255**2 / np.square(result - expected).mean()) > 30
