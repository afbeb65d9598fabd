"""Tiles on disk: all pixels, in order, the same every time, without TensorFlow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.data.prepare import PrepareConfig, detail, main, prepare, tile_corners
from tvt_jax.data.sources import open_source


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A large photo, a small one, a flat one and a damaged one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (50, 40, 3), np.uint8)).save(folder / "large.png")
    Image.fromarray(generator.integers(0, 256, (7, 9, 3), np.uint8)).save(folder / "small.png")
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(folder / "flat.png")
    (folder / "damaged.jpg").write_bytes(b"no image")
    return folder


def test_tiles_are_the_photos_pixels(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    manifest = prepare(PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=16))
    assert manifest["counts"] == {"photos": 3, "unreadable": 1, "tiles": 7, "flat": 1}
    assert json.loads((tmp_path / "tiles/manifest.json").read_text()) == manifest
    assert capsys.readouterr().err.count("damaged.jpg") == 1

    source = open_source(tmp_path / "tiles")
    large = np.asarray(Image.open(photos / "large.png"))
    assert len(source) == 7
    for index, (top, left) in enumerate(tile_corners((50, 40), 32, 16)):
        np.testing.assert_array_equal(source[index], large[top : top + 32, left : left + 32])
    np.testing.assert_array_equal(source[6], np.asarray(Image.open(photos / "small.png")))


def test_the_same_photos_give_the_same_files(photos: Path, tmp_path: Path):
    contents = []
    for name in ("first", "second"):
        prepare(PrepareConfig(images=photos, out=tmp_path / name, crop=32, stride=32))
        contents.append([file.read_bytes() for file in sorted(tmp_path.glob(f"{name}/**/*array_record*"))])
    assert contents[0] == contents[1] != []


@pytest.mark.parametrize("crop, stride", [(32, 32), (32, 20), (10, 3), (64, 64)])
def test_tiles_cover_every_pixel(crop: int, stride: int):
    seen = np.zeros((50, 41), bool)
    corners = tile_corners(seen.shape, crop, stride)
    for top, left in corners:
        assert (top + crop <= 50 or top == 0) and (left + crop <= 41 or left == 0)
        seen[top : top + crop, left : left + crop] = True
    assert seen.all()
    assert len(set(corners)) == len(corners)


def test_detail_is_the_mean_difference_of_neighbours():
    stripes = np.zeros((4, 4, 3), np.uint8)
    stripes[:, ::2] = 100
    assert detail(stripes) == 50  # 100 across, 0 along
    assert detail(np.zeros((1, 1, 3), np.uint8)) == 0


def test_tiles_are_never_overwritten(photos: Path, tmp_path: Path):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32)
    prepare(config)
    with pytest.raises(FileExistsError, match="holds tiles already"):
        prepare(config)


def test_nothing_left_is_an_error(photos: Path, tmp_path: Path):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32, minimum_detail=255.0)
    with pytest.raises(ValueError, match="minimum-detail"):
        prepare(config)


def test_settings_that_lose_pixels_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="stride 33"):
        PrepareConfig(images=tmp_path, out=tmp_path, crop=32, stride=33)


def test_the_command_needs_no_tensorflow(photos: Path, tmp_path: Path):
    program = "import sys; from tvt_jax.data.prepare import main; main(); assert 'tensorflow' not in sys.modules"
    arguments = ["--images", str(photos), "--out", str(tmp_path / "tiles"), "--crop", "32", "--stride", "32"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "3 photos, 1 unreadable" in done.stdout


def test_the_command_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = ["prepare", "--images", str(tmp_path / "missing"), "--out", str(tmp_path / "tiles")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=r"^error: there is no folder"):
        main()
