"""Photos named in a text file: the same batches and tiles as from their folder, and little memory."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.data.listing import ImageList
from tvt_jax.data.pipeline import DataConfig, make_iterator
from tvt_jax.data.prepare import PrepareConfig, prepare
from tvt_jax.data.sources import list_images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for number in range(5):
        (folder / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number % 2}" / f"{number}.png")
    names = [path.relative_to(folder).as_posix() for path in list_images(folder)]
    (folder / "photos.txt").write_text("\n".join(names) + "\n")
    return folder


def batches(path: Path, workers: int = 0) -> list[np.ndarray]:
    iterator = make_iterator(DataConfig(path=str(path), crop=16, batch=2, workers=workers), seed=3)
    try:
        return [next(iterator)["hr"] for _ in range(4)]
    finally:
        iterator.close()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_list_gives_the_batches_of_its_folder(photos: Path, workers: int):
    for one, two in zip(batches(photos), batches(photos / "photos.txt", workers), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_list_gives_the_tiles_of_its_folder(photos: Path, tmp_path: Path):
    counts = [
        prepare(PrepareConfig(images=images, out=tmp_path / out, crop=16, stride=16, photos_per_part=2))
        for images, out in ((photos, "one"), (photos / "photos.txt", "two"))
    ]
    assert counts[0] and counts[1] and counts[0]["parts"] == counts[1]["parts"]


def test_lines_are_paths(photos: Path, tmp_path: Path):
    lines = [b"./a b.jpg", b"", b"/c/d.png", b"caf\xe9.png\r", b"no line break at the end"]
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n".join(lines))
    found = ImageList(path)
    names = [tmp_path / "a b.jpg", Path("/c/d.png"), tmp_path / "caf\udce9.png"]
    assert [str(file) for file in found] == [*map(str, names), str(tmp_path / lines[-1].decode())]
    assert len(found) == 4 and found[-1] == found[len(found) - 1] and found[1:3] == names[1:3]
    with pytest.raises(IndexError):
        found[len(found)]


def test_breaks_are_found_across_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tvt_jax.data.listing._PIECE", 7)
    names = [f"{number}.png" for number in range(20)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    assert [file.name for file in ImageList(tmp_path / "list.txt")] == names


def test_a_missing_photo_is_named(photos: Path, tmp_path: Path):
    with (photos / "photos.txt").open("a") as file:
        file.write("gone.png\n/elsewhere/gone.png\n")
    manifest = prepare(PrepareConfig(images=photos / "photos.txt", out=tmp_path / "tiles", crop=16, stride=16))
    assert manifest and manifest["counts"]["photos"] == 5 and manifest["counts"]["unreadable"] == 2


def test_another_list_is_another_set(photos: Path, tmp_path: Path):
    config = PrepareConfig(images=photos / "photos.txt", out=tmp_path / "tiles", crop=16, stride=16)
    prepare(config)
    with config.images.open("a") as file:
        file.write("0/0.png\n")
    with pytest.raises(FileExistsError, match="other photos"):
        prepare(config)


@pytest.mark.parametrize("content", [None, b""])
def test_no_list_is_named(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(FileNotFoundError, match=r"no list of images .*list\.txt"):
        make_iterator(DataConfig(path=str(tmp_path / "list.txt"), crop=16, batch=2), seed=0)


def test_a_list_is_read_anew_in_a_worker(photos: Path):
    found = ImageList(photos / "photos.txt")
    assert len(pickle.dumps(found)) < 1000
    assert list(pickle.loads(pickle.dumps(found))) == list(found)


MEMORY = """
import resource, sys
from pathlib import Path
from tvt_jax.data.listing import ImageList
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = ImageList(Path(sys.argv[1]))
assert found[len(found) - 1].name == "0000999999.jpg"
anonymous = int(next(line for line in open("/proc/self/smaps_rollup") if line.startswith("Anonymous:")).split()[1])
print(anonymous / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory")
def test_a_million_lines_take_little_memory(tmp_path: Path):
    """16 MB of places, and the package; a million paths take 400 MB."""
    path = tmp_path / "list.txt"
    path.write_text("".join(f"train/{number // 1000:04d}/{number:010d}.jpg\n" for number in range(1_000_000)))
    done = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150
