"""Tiles by one process, several, or Beam's workers: the same files, byte for byte."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.data.prepare import PrepareConfig, prepare
from tvt_jax.data.sources import open_source

PARTS = 6


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(2 * PARTS - 2):
        Image.fromarray(generator.integers(0, 256, (50, 40, 3), np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "damaged.jpg").write_bytes(b"no image")
    Image.fromarray(np.full((32, 32, 3), 99, np.uint8)).save(folder / "flat.png")
    return folder


def config(photos: Path, out: str) -> PrepareConfig:
    return PrepareConfig(images=photos, out=photos.parent / out, crop=32, stride=16, photos_per_part=2)


def start(photos: Path, out: str, *words: str, seed: int = 0) -> subprocess.Popen:
    """Start the command in a process of its own, whose sets and protobuf's maps have an order of their own."""
    settings = f"--images {photos} --out {photos.parent / out} --crop 32 --stride 16 --photos-per-part 2".split()
    return subprocess.Popen(
        [sys.executable, "-m", "tvt_jax.data.prepare", *settings, *words],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def command(photos: Path, out: str, *words: str, seed: int = 0) -> str:
    process = start(photos, out, *words, seed=seed)
    told, errors = process.communicate()
    assert process.returncode == 0, errors
    return told


def contents(photos: Path, out: str) -> dict[str, bytes]:
    folder = photos.parent / out
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_process_writes_the_same_bytes(photos: Path):
    command(photos, "one", seed=1)
    command(photos, "two", seed=2)
    prepare(config(photos, "here"))
    assert contents(photos, "one") == contents(photos, "two") == contents(photos, "here")
    assert sum("array_record" in name for name in contents(photos, "one")) == PARTS - 1  # damaged and flat: no tile


def test_features_are_written_in_the_order_of_their_names(photos: Path):
    """protobuf's own order differs between processes by chance, so that equal files alone would prove little."""
    from array_record.python.array_record_module import ArrayRecordReader

    prepare(config(photos, "tiles"))
    for path in (photos.parent / "tiles").rglob("*array_record*"):
        for record in ArrayRecordReader(str(path)).read_all():
            assert record.index(b"\x05image") < record.index(b"\x04name")


@pytest.mark.parametrize("shards", [2, 4, 7])
def test_any_number_of_shards_gives_the_same_files(photos: Path, shards: int):
    prepare(config(photos, "one"))
    for number in reversed(range(shards)):
        manifest = prepare(replace(config(photos, "shards"), shard=f"{number}/{shards}"))
        assert (manifest is None) == (number > 0)
    assert contents(photos, "shards") == contents(photos, "one")
    assert len(open_source(photos.parent / "shards")) == manifest["counts"]["tiles"]


def test_shards_run_at_the_same_time(photos: Path):
    running = [start(photos, "shards", "--shard", f"{number}/4", seed=number) for number in range(4)]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    prepare(config(photos, "one"))
    assert contents(photos, "shards") == contents(photos, "one")


def test_what_one_shard_wrote_another_number_of_them_goes_on_with(photos: Path):
    prepare(replace(config(photos, "tiles"), shard="1/3"))
    before = {path: path.stat().st_mtime_ns for path in (photos.parent / "tiles").rglob("part.json")}
    assert len(before) == PARTS / 3
    prepare(config(photos, "one"))
    assert prepare(config(photos, "tiles"))["complete"]
    assert contents(photos, "tiles") == contents(photos, "one")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_tiles_lack_a_shard_until_it_is_done(photos: Path):
    assert "done last" in command(photos, "tiles", "--shard", "0/2")
    with pytest.raises(ValueError, match="not complete"):
        open_source(photos.parent / "tiles")
    assert "11 photos, 1 unreadable" in command(photos, "tiles", "--shard", "1/2")


def test_a_part_that_was_cut_off_is_no_part(photos: Path):
    """part.json is what says that a part is whole; it comes last."""
    prepare(config(photos, "one"))
    prepare(config(photos, "tiles"))
    part = photos.parent / "tiles" / "part_00002"
    (part / "part.json").unlink()
    manifest = json.loads((photos.parent / "tiles" / "manifest.json").read_text())
    (photos.parent / "tiles" / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    assert prepare(replace(config(photos, "tiles"), shard="0/6")) is None
    prepare(replace(config(photos, "tiles"), shard="2/6"))
    assert contents(photos, "tiles") == contents(photos, "one")


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe"])
def test_a_part_that_says_nothing_is_written_anew(photos: Path, damage: bytes):
    prepare(config(photos, "tiles"))
    before = contents(photos, "tiles")
    (photos.parent / "tiles/part_00002/part.json").write_bytes(damage)
    prepare(config(photos, "tiles"))
    assert contents(photos, "tiles") == before


def test_a_part_under_way_is_not_trained_on(photos: Path):
    prepare(config(photos, "tiles"))
    tiles = len(open_source(photos.parent / "tiles"))
    shutil.copytree(photos.parent / "tiles/part_00002", photos.parent / "tiles/.part_00002.abcdefgh.part")
    assert len(open_source(photos.parent / "tiles")) == tiles


@pytest.mark.parametrize("shard", ["4/4", "1", "-1/4", "0/0", "a/b"])
def test_shards_that_are_none_are_refused(photos: Path, shard: str):
    with pytest.raises(ValueError, match=f"shard {shard} must be I/N"):
        replace(config(photos, "tiles"), shard=shard)


def test_beam_and_shards_exclude_each_other(photos: Path):
    with pytest.raises(ValueError, match="exclude each other"):
        replace(config(photos, "tiles"), shard="0/4", beam="--runner=DirectRunner")


def test_beam_must_be_installed(photos: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'tvt-jax\[beam\]'"):
        prepare(replace(config(photos, "tiles"), beam=""))
    assert not (photos.parent / "tiles").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache-beam is not installed")
@pytest.mark.parametrize("workers", [1, 2])
def test_beam_writes_the_same_files(photos: Path, workers: int):
    prepare(config(photos, "one"))
    mode = " --direct_running_mode=multi_processing" if workers > 1 else ""
    told = command(photos, "beam", f"--beam=--runner=DirectRunner --direct_num_workers={workers}{mode}")
    assert "11 photos, 1 unreadable" in told
    assert contents(photos, "beam") == contents(photos, "one")
    # And goes on: a part that is missing is written, the others stay.
    (photos.parent / "beam" / "part_00001" / "part.json").unlink()
    command(photos, "beam", f"--beam=--runner=DirectRunner --direct_num_workers={workers}{mode}")
    assert contents(photos, "beam") == contents(photos, "one")
