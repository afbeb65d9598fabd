"""Tiles on disk: all pixels, in order, the same every time, without TensorFlow."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tvt_jax.data.photos as photos_module
from tvt_jax.data.prepare import PrepareConfig, main, prepare
from tvt_jax.data.sources import open_source, read_image
from tvt_jax.data.tiles import detail, tile_corners


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


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and times of all files."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_parts_are_read_one_after_the_other(photos: Path, tmp_path: Path):
    whole, parts = PrepareConfig(images=photos, out=tmp_path / "whole", crop=32, stride=16), tmp_path / "parts"
    prepare(whole)
    manifest = prepare(replace(whole, out=parts, photos_per_part=1))
    assert [part["counts"]["tiles"] for part in manifest["parts"]] == [0, 0, 6, 1]  # damaged, flat, large, small
    ours, theirs = open_source(parts), open_source(tmp_path / "whole")
    assert len(ours) == len(theirs) == 7
    for index in range(7):
        np.testing.assert_array_equal(ours[index], theirs[index])


def test_checksums_are_those_of_the_files(photos: Path, tmp_path: Path):
    manifest = prepare(PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32))
    (part,) = manifest["parts"]
    assert any("array_record" in name for name in part["sha256"])
    for name, checksum in part["sha256"].items():
        assert hashlib.sha256((tmp_path / "tiles/part_00000" / name).read_bytes()).hexdigest() == checksum


def test_the_same_command_goes_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32, photos_per_part=1)

    def break_off(path: Path) -> np.ndarray:
        if path.name == "small.png":
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(photos_module, "read_image", break_off)
    with pytest.raises(KeyboardInterrupt):
        prepare(config)
    with pytest.raises(ValueError, match="not complete"):
        open_source(config.out)
    before = files(config.out / "part_00002")
    assert before
    monkeypatch.setattr(photos_module, "read_image", read_image)
    manifest = prepare(config)
    assert manifest["counts"] == {"photos": 3, "unreadable": 1, "tiles": 5, "flat": 1}
    assert files(config.out / "part_00002") == before
    assert len(open_source(config.out)) == 5

    done = files(config.out)
    assert prepare(config)["counts"] == manifest["counts"]
    changed = {name for name, file in files(config.out).items() if file != done[name]}
    assert changed == {"manifest.json"}  # its time alone
    assert (config.out / "manifest.json").read_bytes() == done["manifest.json"][0]


def test_tiles_whose_manifest_does_not_tell_are_refused(photos: Path, tmp_path: Path):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32)
    prepare(config)
    (config.out / "manifest.json").write_text('{"settings": {}, "counts": {}}')
    with pytest.raises(ValueError, match="not complete"):
        open_source(config.out)


def test_a_damaged_part_is_written_anew(photos: Path, tmp_path: Path):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32, photos_per_part=1)
    prepare(config)
    (record,) = config.out.glob("part_00002/**/*.array_record*")
    good = record.read_bytes()
    record.write_bytes(good[:-5] + b"wrong")
    prepare(config)
    assert record.read_bytes() == good


@pytest.mark.parametrize("said", ["", "null", "[]", "{}", '{"counts": {}}', '{"sha256": null, "counts": {}}'])
def test_a_part_that_says_less_than_all_of_itself_is_written_anew(photos: Path, tmp_path: Path, said: str):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32, photos_per_part=1)
    prepare(config)
    part = config.out / "part_00002" / "part.json"
    good = part.read_text()
    part.write_text(said)
    prepare(config)
    assert part.read_text() == good


def test_a_damaged_part_of_another_shard_is_named(photos: Path, tmp_path: Path):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32, photos_per_part=1)
    prepare(config)
    (config.out / "part_00002" / "part.json").write_text(json.dumps({"sha256": {}}))
    with pytest.raises(ValueError, match=r"part_00002/part\.json is damaged: its shard, started again, writes it"):
        prepare(replace(config, shard="1/4"))


@pytest.mark.parametrize("change", ["settings", "photos", "manifest"])
def test_other_tiles_are_never_overwritten(photos: Path, tmp_path: Path, change: str):
    config = PrepareConfig(images=photos, out=tmp_path / "tiles", crop=32, stride=32)
    prepare(config)
    if change == "settings":
        config = replace(config, stride=16)
    elif change == "photos":
        (photos / "damaged.jpg").unlink()
    else:
        (config.out / "manifest.json").unlink()
    before = files(config.out)
    with pytest.raises(FileExistsError, match="choose another --out"):
        prepare(config)
    assert files(config.out) == before


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
