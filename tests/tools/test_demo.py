"""The demo's pictures, with bicubic enlargement standing in for the model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tvt_jax
from tools import demo


def bicubic(photo: np.ndarray, scale: int) -> np.ndarray:
    height, width = photo.shape[:2]
    return np.asarray(Image.fromarray(photo).resize((scale * width, scale * height), Image.Resampling.BICUBIC))


def test_demo_writes_the_result_and_the_comparison(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(tvt_jax, "load", lambda model: SimpleNamespace(upscale=bicubic))
    demo.main(out=tmp_path / "demo")
    result, comparison = tmp_path / "demo" / "coffee_x4.png", tmp_path / "demo" / "side_by_side.png"
    printed = capsys.readouterr().out
    assert str(result) in printed and str(comparison) in printed
    with Image.open(result) as image, Image.open(demo.EXAMPLES / "coffee_truth.png") as truth:
        assert image.size == truth.size
    with Image.open(comparison) as sheet:
        assert sheet.width == 3 * truth.width + 2 * demo.GAP


@pytest.mark.parametrize("corner", demo.CROPS)
def test_crops_lie_in_the_photo(corner: tuple[int, int]) -> None:
    with Image.open(demo.EXAMPLES / "coffee_truth.png") as truth:
        assert all(start + length <= side for start, length, side in zip(corner, demo.CROP, truth.size, strict=True))
