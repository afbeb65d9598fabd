"""Data and models in a bucket, an emulator's: the same as on disk."""

import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tvt_jax
from tests.buckets import bucket  # noqa: F401
from tvt_jax.data.pipeline import DataConfig, make_iterator
from tvt_jax.data.prepare import PrepareConfig, prepare
from tvt_jax.data.sources import distinct_texts
from tvt_jax.files import files_below
from tvt_jax.inference.mark import fingerprint
from tvt_jax.inference.upscaler import PRETRAINED
from tvt_jax.place import place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # gcsfs advises against whole files
]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for folder, side in (("hr", 48), ("lr", 12)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            pixels = generator.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    return tmp_path


def upload(folder: Path, name: str) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            (place(name) / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())


def batches(config: DataConfig) -> list[dict[str, np.ndarray]]:
    iterator = make_iterator(config, 0)
    try:
        return [next(iterator) for _ in range(3)]
    finally:
        iterator.close()


def assert_same(config: DataConfig, other: DataConfig) -> None:
    for one, two in zip(batches(config), batches(other), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_folders_and_pairs_are_read_from_a_bucket(bucket, photos):  # noqa: F811
    upload(photos, f"{bucket}/photos")
    assert_same(
        DataConfig(path=str(photos / "hr"), crop=16, batch=4), DataConfig(path=f"{bucket}/photos/hr", crop=16, batch=4)
    )
    pairs = [
        DataConfig(path=f"{root}/hr", lr_path=f"{root}/lr", crop=16, batch=4) for root in (photos, f"{bucket}/photos")
    ]
    assert_same(*pairs)


def test_tiles_are_prepared_into_a_bucket_and_read_there(bucket, photos):  # noqa: F811
    for out in (photos / "tiles", Path(f"{bucket}/tiles")):  # as the command line gives it
        prepare(PrepareConfig(images=photos / "hr", out=out, crop=32, stride=16))
    assert_same(
        DataConfig(path=str(photos / "tiles"), crop=16, batch=4), DataConfig(path=f"{bucket}/tiles", crop=16, batch=4)
    )


def test_a_model_is_read_from_a_bucket(bucket, tmp_path):  # noqa: F811
    upload(Path(PRETRAINED), f"{bucket}/model")
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    assert fingerprint(place(f"{bucket}/model")) == fingerprint(Path(PRETRAINED))
    np.testing.assert_array_equal(tvt_jax.load(f"{bucket}/model").upscale(image), tvt_jax.load().upscale(image))


def test_archives_and_lists_in_a_bucket_are_prepared_by_shards(bucket, photos, tmp_path):  # noqa: F811
    """What the shards write is what one process writes on disk, but for where it was read."""
    with tarfile.open(photos / "photos.tar", "w") as archive:
        archive.add(photos / "hr", "photos")
    (tmp_path / "tars").mkdir()
    (photos / "photos.tar").rename(tmp_path / "tars/photos.tar")
    (photos / "hr/photos.txt").write_text("".join(f"{number}.png\n" for number in range(3)))
    upload(tmp_path / "tars", f"{bucket}/tars")
    upload(photos / "hr", f"{bucket}/listed")
    for local, remote in (("tars", "tars"), ("hr/photos.txt", "listed/photos.txt")):
        out = {"disk": tmp_path / f"{remote}_disk", "bucket": Path(f"{bucket}/out/{remote}")}
        settings = {"crop": 32, "stride": 16, "photos_per_part": 1}
        here = prepare(PrepareConfig(images=photos / local, out=out["disk"], **settings))
        for shard in ("1/2", "0/2"):
            there = prepare(
                PrepareConfig(images=Path(f"{bucket}/{remote}"), out=out["bucket"], shard=shard, **settings)
            )
        assert there == here
    listed = DataConfig(path=f"{bucket}/listed/photos.txt", crop=16, batch=4)
    assert_same(DataConfig(path=str(photos / "hr"), crop=16, batch=4), listed)


def test_a_list_may_name_what_lies_in_a_bucket(bucket, photos):  # noqa: F811
    upload(photos / "hr", f"{bucket}/named")
    (photos / "list.txt").write_text("".join(f"{bucket}/named/{number}.png\n" for number in range(3)))
    assert_same(
        DataConfig(path=str(photos / "hr"), crop=16, batch=4),
        DataConfig(path=str(photos / "list.txt"), crop=16, batch=4),
    )


@pytest.mark.skipif(importlib.util.find_spec("apache_beam") is None, reason="apache-beam is not installed")
def test_beams_workers_read_and_write_a_bucket(bucket, photos):  # noqa: F811
    upload(photos / "hr", f"{bucket}/beam/hr")
    options = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"
    settings = f"--images {bucket}/beam/hr --crop 32 --stride 16 --photos-per-part 1".split()
    for out, words in ((photos / "tiles", []), (f"{bucket}/beam/tiles", [f"--beam={options}"])):
        command = [sys.executable, "-m", "tvt_jax.data.prepare", "--out", out, *settings, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    here, there = (
        {path.relative_to(out).as_posix(): path.read_bytes() for path in files_below(out)}
        for out in (photos / "tiles", place(f"{bucket}/beam/tiles"))
    )
    assert here == there != {}


def test_a_table_of_texts_is_read_in_a_bucket(bucket, photos):  # noqa: F811
    (photos / "hr" / "metadata.csv").write_text("file_name,text\n0.png,a dog\n2.png,snow\n")
    upload(photos / "hr", f"{bucket}/described")
    assert distinct_texts(f"{bucket}/described") == {"a dog", "", "snow"}
    config = PrepareConfig(images=Path(f"{bucket}/described"), out=photos / "tiles", crop=24, stride=24)
    manifest = prepare(config)
    assert manifest and manifest["texts"] == ["", "a dog", "snow"]
