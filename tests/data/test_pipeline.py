"""Batches are a function of (seed, k), whoever makes them and whatever happened before."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.data.degradation import TVT
from tvt_jax.data.pipeline import Batch, DataConfig, make_iterator, random_crop, random_flip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of several sizes, two smaller than the crop, and a damaged one."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for index in range(10):
        size = (5, 7 + index) if index < 2 else (40 + index, 60 - index)
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{index}.png")
    (folder / "4.png").write_bytes(b"no image")
    return folder


def take(
    config: DataConfig, count: int, seed: int = 0, after: int = 0, process: tuple[int, int] = (0, 1)
) -> list[Batch]:
    """Batches `after` to `after + count`."""
    iterator = make_iterator(config, seed, *process)
    iterator.set_state({"batches": after})
    batches = list(islice(iterator, count))
    iterator.close()
    return batches


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    """All arrays are equal to the bit."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_shapes(photos: Path):
    (batch,) = take(DataConfig(path=str(photos), crop=32, batch=3, degradation=TVT), 1)
    assert {name: (x.shape, x.dtype.name) for name, x in batch.items()} == {
        "hr": ((3, 32, 32, 3), "uint8"),
        "lr": ((3, 8, 8, 3), "uint8"),
    }
    (batch,) = take(DataConfig(path=str(photos), crop=32, batch=3), 1)
    assert batch.keys() == {"hr"}


def test_seeds_differ_and_repeat(photos: Path):
    config = DataConfig(path=str(photos), crop=32, batch=4, degradation=TVT)
    assert_same(take(config, 3, seed=1), take(config, 3, seed=1))
    assert (take(config, 1, seed=1)[0]["hr"] != take(config, 1, seed=2)[0]["hr"]).any()


def test_every_image_once_an_epoch(tmp_path: Path):
    for index in range(6):
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    batches = take(DataConfig(path=str(tmp_path), crop=8, batch=6), 3)
    orders = [batch["hr"][:, 0, 0, 0].tolist() for batch in batches]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert orders[0] != orders[1] != orders[2]


def test_going_on_is_exact(photos: Path):
    config = DataConfig(path=str(photos), crop=32, batch=4, degradation=TVT)
    iterator = make_iterator(config, seed=3)
    for _ in range(4):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    rest = list(islice(iterator, 3))
    assert_same(take(config, 3, seed=3, after=state["batches"]), rest)
    iterator.set_state(state)
    assert_same(list(islice(iterator, 3)), rest)
    iterator.close()


def test_process_count_does_not_show(photos: Path):
    config = DataConfig(path=str(photos), crop=32, batch=4, degradation=TVT)
    whole = take(config, 3)
    for count in (2, 4):
        parts = [take(config, 3, process=(index, count)) for index in range(count)]
        joined = [
            {name: np.concatenate([p[name] for p in rows]) for name in rows[0]} for rows in zip(*parts, strict=True)
        ]
        assert_same(joined, whole)
    # Two processes go on where one has stopped.
    assert_same([{k: v[:2] for k, v in batch.items()} for batch in whole[2:]], take(config, 1, after=2, process=(0, 2)))


@pytest.mark.slow  # each worker imports Grain: seconds
def test_worker_count_does_not_show(photos: Path):
    config = {"path": str(photos), "crop": 32, "batch": 4, "degradation": TVT}
    alone = take(DataConfig(**config), 5)
    # An odd start, so that workers take turns otherwise than from the beginning.
    assert_same(take(DataConfig(**config, workers=2), 4, after=1), alone[1:])


def test_small_images_are_mirrored():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    crop = random_crop(image, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(crop, np.tile(image[:, [0, 1, 1, 0]], (4, 1, 1)))


def test_crops_come_from_everywhere():
    image = np.arange(25, dtype=np.uint8).reshape(5, 5, 1).repeat(3, axis=2)
    generator = np.random.default_rng(0)
    corners = {int(random_crop(image, 4, generator)[0, 0, 0]) for _ in range(50)}
    assert corners == {0, 1, 5, 6}


def test_flips_are_the_eight_symmetries():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    generator = np.random.default_rng(0)
    assert len({random_flip(image, generator).tobytes() for _ in range(200)}) == 8


def test_flips_can_be_turned_off(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    (batch,) = take(DataConfig(path=str(tmp_path), crop=8, batch=20, flips=False), 1)
    assert (batch["hr"] == image).all()


@pytest.mark.parametrize("wrong", [{"crop": 0}, {"batch": 0}, {"workers": -1}, {"crop": 30, "degradation": TVT}])
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValueError, match="crop"):
        DataConfig(path="x", **wrong)


def test_uneven_batches_are_refused(photos: Path):
    with pytest.raises(ValueError, match="batch of 3 cannot be shared by 2"):
        make_iterator(DataConfig(path=str(photos), batch=3), 0, 0, 2)
