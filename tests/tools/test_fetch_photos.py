"""Fetching photos, with packages that are made up instead of downloaded."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tools.fetch import photos, registry
from tools.fetch.photo_packages import HELD_OUT, PACKAGES, Package
from tools.fetch.photos import difference_hash, fetch, is_meant
from tools.fetch.registry import download

PACKAGE = Package(registry="npm", name="kit@1.2.3", folder="package/img", photos=("*.jpg", "*.png"), without=("logo*",))


def picture(seed: int, width: int = 400, height: int = 360) -> Image.Image:
    """Smooth noise, a different one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes PACKAGE the only one; the list names what was downloaded."""
    calls: list[str] = []

    def download(registry: str, name: str, folder: Path) -> tuple[Path, str]:
        calls.append(name)
        images = folder / "package/img"
        images.mkdir(parents=True)
        (folder / "package/LICENSE").write_text("MIT License")
        (folder / "package/package.json").write_text('{"license": "MIT"}')
        picture(0).save(images / "clean.png")
        picture(0).filter(ImageFilter.GaussianBlur(1)).save(images / "copy.png")
        picture(1).save(images / "fine.jpg", quality=95)
        picture(2).save(images / "coarse.jpg", quality=20)
        picture(3, 1800, 1602).save(images / "large.jpg", quality=90)
        picture(4, 100, 100).save(images / "small.png")
        picture(5).save(images / "logo-1.png")
        picture(6).save(images / "kept.png")
        return folder, "1.2.3"

    monkeypatch.setattr(photos, "PACKAGES", (PACKAGE,))
    monkeypatch.setattr(photos, "HELD_OUT", frozenset({"kit/kept"}))
    monkeypatch.setattr(photos, "download", download)
    return calls


def test_only_good_photos_arrive(downloads: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    kept = {photo.file: photo for photo in fetch(tmp_path)}
    assert sorted(kept) == [
        "held_out/kit/kept.png",
        "train/kit/clean.png",
        "train/kit/fine.jpg",
        "train/kit/large.png",
    ]
    large = kept["train/kit/large.png"]
    assert (large.width, large.height, large.halved, large.licence) == (900, 801, True, "MIT")
    with Image.open(tmp_path / large.file) as written:
        assert written.size == (900, 801)
    assert (tmp_path / "licences/kit/LICENSE").read_text() == "MIT License"
    said = capsys.readouterr().out
    assert all(name in said for name in ("kit/coarse", "kit/small", "kit/copy: the same as train/kit/clean.png"))


def test_complete_packages_are_not_fetched_again(downloads: list[str], tmp_path: Path):
    first = fetch(tmp_path)
    assert fetch(tmp_path) == first
    assert len(downloads) == 1
    (tmp_path / first[0].file).unlink()
    assert sorted(photo.sha256 for photo in fetch(tmp_path)) == sorted(photo.sha256 for photo in first)
    assert len(downloads) == 2


def test_a_missing_registry_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(photos, "PACKAGES", (PACKAGE,))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"kit@1\.2\.3: npm is not installed"):
        fetch(tmp_path / "photos")
    assert not list(tmp_path.glob("photos/.download-*"))


def test_every_photo_held_out_has_a_package():
    slugs = {package.slug for package in PACKAGES}
    assert {name.split("/")[0] for name in HELD_OUT} <= slugs
    assert len(slugs) == len(PACKAGES)


def test_hashes_tell_photos_apart():
    same = difference_hash(picture(0)) ^ difference_hash(picture(0, 200, 180))
    other = difference_hash(picture(0)) ^ difference_hash(picture(1))
    assert same.bit_count() <= photos.DUPLICATE_BITS < other.bit_count() / 2


def test_debian_patterns():
    path = Path("usr/share/backgrounds/a.jpg")
    assert is_meant(path, "*") and is_meant(path, "16.04/a.jpg") and is_meant(path, "nature/*.jpg")
    assert not is_meant(path, "debian/*") and not is_meant(path, "16.04/b.jpg")


def test_the_manifest_is_json(downloads: list[str], tmp_path: Path):
    fetch(tmp_path)
    entries = json.loads((tmp_path / "manifest.json").read_text())["photos"]
    assert {"file", "package", "version", "licence", "width", "height", "sha256", "split"} <= set(entries[0])


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The registries' tools run inside it, so what they are told must not be relative to where it was named."""
    monkeypatch.chdir(tmp_path)
    folder = Path("photos")
    folder.mkdir()

    def run(*command: str, cwd: Path) -> None:
        if command[0] == "apt-get":
            (cwd / "kit_1%3a2_all.deb").touch()
        else:
            assert (cwd / command[2]).exists()
            assert (cwd / command[3]).exists()

    monkeypatch.setattr(registry, "run", run)
    root, version = download("apt", "kit", folder)
    assert (root, version) == (tmp_path / "photos/unpacked", "1:2")
