"""Batches are a function of (seed, k), whoever makes them and whatever happened before."""

import hashlib
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tvt_jax.data.degradation import TVT
from tvt_jax.data.pipeline import Batch, DataConfig, make_iterator, random_crop, turned


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


def hashes(config: DataConfig, count: int, processes: int = 1) -> list[str]:
    """Digests of the first global batches, whose rows are put together from all processes."""
    iterators = [make_iterator(config, 0, index, processes) for index in range(processes)]
    digests = []
    for parts in islice(zip(*iterators, strict=True), count):
        rows = [row for name in ("hr", "lr") for part in parts for row in part[name]]
        digests.append(hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest())
    for iterator in iterators:
        iterator.close()
    return digests


@pytest.mark.slow  # each worker imports Grain: seconds
def test_neither_workers_nor_processes_show_in_a_thousand_batches(photos: Path):
    """They go round the ten images 400 times."""
    config = DataConfig(path=str(photos), crop=8, batch=4, degradation=TVT)
    expected = hashes(config, 1000)
    assert len(set(expected)) == 1000
    for workers, processes in ((0, 2), (0, 4), (1, 1), (2, 1), (4, 1), (2, 2)):
        found = hashes(replace(config, workers=workers), 1000, processes)
        assert found == expected, f"{workers} workers, {processes} processes"


@pytest.mark.slow
def test_going_on_with_workers_is_exact(photos: Path):
    config = DataConfig(path=str(photos), crop=32, batch=4, degradation=TVT)
    # An odd start, so that workers take turns otherwise than from the beginning.
    assert_same(take(replace(config, workers=2), 4, after=1), take(config, 4, after=1))


def test_small_images_are_mirrored():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    crop = random_crop(image, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(crop, np.tile(image[:, [0, 1, 1, 0]], (4, 1, 1)))


def test_crops_come_from_everywhere():
    image = np.arange(25, dtype=np.uint8).reshape(5, 5, 1).repeat(3, axis=2)
    generator = np.random.default_rng(0)
    corners = {int(random_crop(image, 4, generator)[0, 0, 0]) for _ in range(50)}
    assert corners == {0, 1, 5, 6}


def test_crops_are_enlarged_as_torch_does(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    config = DataConfig(path=str(tmp_path), crop=16, batch=1, flips=False, enlarge=(2.0, 2.0), degradation=TVT)
    (batch,) = take(config, 1)
    whole = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float64))
    expected = torch.nn.functional.interpolate(whole, (16, 16), mode="bicubic")[0].numpy().transpose(1, 2, 0)
    # OpenCV's weights are integers of 11 bits, and the result is rounded.
    np.testing.assert_allclose(batch["hr"][0], expected.clip(0, 255), atol=1)
    assert batch["lr"].shape == (1, 4, 4, 3)


def test_enlargements_are_drawn_between_the_limits(tmp_path: Path):
    ramp = np.arange(0, 256, 4, dtype=np.uint8)
    Image.fromarray(np.repeat(ramp[:, None], 64, axis=1)).save(tmp_path / "0.png")
    config = DataConfig(path=str(tmp_path), crop=32, batch=50, flips=False, enlarge=(1.0, 2.0))
    (batch,) = take(config, 1)
    inner = batch["hr"][:, 4:-4, 16, 0].astype(float)  # bicubic keeps a ramp straight, but for the border
    factors = 4 * (inner.shape[1] - 1) / (inner[:, -1] - inner[:, 0])
    assert 1 <= factors.min() < 1.1 and 1.8 < factors.max() < 2.05 and len(set(factors)) > 10


@pytest.mark.parametrize(("changes", "said"), [
    ({"enlarge": (0.5, 1.0)}, "increasing pair"),
    ({"enlarge": (2.0, 1.5)}, "increasing pair"),
    ({"enlarge": (1.0, 1.5), "lr_path": "lr"}, "not for the pairs"),
])  # fmt: skip
def test_enlargements_that_make_no_sense(changes: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        DataConfig(path="hr", **changes)


def test_flips_are_the_eight_symmetries():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert len({turned(image, symmetry).tobytes() for symmetry in range(8)}) == 8
    np.testing.assert_array_equal(turned(image, 0), image)


def test_flips_can_be_turned_off(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "0.png")
    (batch,) = take(DataConfig(path=str(tmp_path), crop=8, batch=20, flips=False), 1)
    assert (batch["hr"] == image).all()


@pytest.fixture
def pairs(tmp_path: Path) -> DataConfig:
    """A large and a small picture, each a block of 4x4 for a pixel of its counterpart, and two that are no pairs."""
    generator = np.random.default_rng(0)
    sizes = {"a/1_HR.png": (12, 10), "a/2_HR.png": (3, 6), "odd_HR.png": (5, 5), "broken_HR.png": (5, 5)}
    for name, size in sizes.items():
        low = generator.integers(0, 256, (*size, 3), np.uint8)
        high = low.repeat(4, axis=0).repeat(4, axis=1)
        for folder, file, image in (("hr", name, high), ("lr", name.replace("HR", "LR4"), low)):
            (tmp_path / folder / file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / folder / file)
    Image.fromarray(np.zeros((19, 20, 3), np.uint8)).save(tmp_path / "hr" / "odd_HR.png")
    (tmp_path / "lr" / "broken_LR4.png").write_bytes(b"no image")
    return DataConfig(path=str(tmp_path / "hr"), lr_path=str(tmp_path / "lr"), crop=20, batch=8)


def test_pairs_stay_on_top_of_each_other(pairs: DataConfig, caplog: pytest.LogCaptureFixture):
    """Cut at other places, turned otherwise or mirrored at another border, they would not agree."""
    for batch in take(pairs, 6):
        np.testing.assert_array_equal(batch["hr"], batch["lr"].repeat(4, axis=1).repeat(4, axis=2))
    assert len(np.unique(np.concatenate([batch["lr"] for batch in take(pairs, 6)]), axis=0)) > 20
    named = " ".join(record.getMessage() for record in caplog.records)
    assert "odd_HR.png: 20x19 is not 4 times its counterpart's 5x5" in named
    assert "broken_LR4.png: not an image" in named


def test_an_image_without_its_counterpart_is_an_error(pairs: DataConfig):
    Image.new("RGB", (20, 20)).save(Path(pairs.path) / "alone.png")
    with pytest.raises(ValueError, match=r"1 of 5 images .* have no counterpart .*alone\.png"):
        make_iterator(pairs, 0)


def test_a_number_that_is_not_the_scale_belongs_to_the_name(pairs: DataConfig):
    Image.new("RGB", (20, 20)).save(Path(pairs.path) / "img_HR2.png")
    Image.new("RGB", (5, 5)).save(Path(str(pairs.lr_path)) / "img_LR1.png")
    with pytest.raises(ValueError, match=r"1 of 5 images .* have no counterpart .*img_HR2\.png"):
        make_iterator(pairs, 0)


def test_two_images_of_one_name_are_an_error(pairs: DataConfig):
    Image.new("RGB", (20, 20)).save(Path(pairs.path) / "odd.png")
    with pytest.raises(ValueError, match="have the same name 'odd'"):
        make_iterator(pairs, 0)


def test_sources_are_mixed_by_weight(tmp_path: Path):
    """Each keeps its own order, and the batches depend on position alone, as with one source."""
    for level, name in enumerate(("many", "few")):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.fromarray(np.full((8, 8, 3), 10 * level + index, np.uint8)).save(tmp_path / name / f"{index}.png")
    config = DataConfig(path=str(tmp_path / "many"), mixed=((str(tmp_path / "few"), 0.25),), crop=8, batch=20)
    batches = take(config, 3)
    met = np.concatenate([batch["hr"][:, 0, 0, 0] for batch in batches])
    assert (met >= 10).sum() == 12
    first = met[met < 10][:48].reshape(-1, 3)
    assert (np.sort(first) == np.arange(3)).all()
    assert_same(take(config, 2, after=1), batches[1:])
    halves = [take(config, 3, process=(index, 2)) for index in range(2)]
    assert_same([{"hr": np.concatenate([a["hr"], b["hr"]])} for a, b in zip(*halves, strict=True)], batches)


def test_pairs_and_degraded_images_are_mixed(pairs: DataConfig, photos: Path):
    mixed = replace(pairs, mixed=((str(photos), 1.0),), degradation=TVT)
    (batch,) = take(mixed, 1)
    exact = (batch["hr"] == batch["lr"].repeat(4, axis=1).repeat(4, axis=2)).all((1, 2, 3))
    assert exact.sum() == 4


def test_a_share_of_the_crops_is_only_made_smaller(photos: Path):
    """The averaged ones are exact; degraded ones of noise are never that."""
    config = DataConfig(path=str(photos), crop=16, batch=8, degradation=TVT, clean=0.5)
    batches = take(config, 8)
    hr, lr = (np.concatenate([batch[name] for batch in batches]).astype(int) for name in ("hr", "lr"))
    averaged = hr.reshape(-1, 4, 4, 4, 4, 3).mean((2, 4))
    exact = (np.abs(lr - averaged) <= 0.5).all((1, 2, 3)).sum()
    assert 16 <= exact <= 48  # of 64: four standard deviations about a half
    assert_same(take(config, 2, after=6), batches[6:])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clean": 1.5}, "clean=1.5 must be a share"),
        ({"crop": 0}, "crop=0 must be at least 1"),
        ({"batch": 0}, "batch=0 must be at least 1"),
        ({"workers": -1}, "workers=-1 must be at least 0"),
        ({"crop": 30, "degradation": TVT}, "crop=30 must be a multiple of 4"),
        ({"crop": 30, "lr_path": "y"}, "crop=30 must be a multiple of 4"),
        ({"lr_path": "y", "mixed": (("z", 1.0),)}, "lr_path is for x alone"),
        ({"mixed": (("z", 0.0),)}, r"the weight 0\.0 is not positive"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        DataConfig(path="x", **wrong)


def test_uneven_batches_are_refused(photos: Path):
    with pytest.raises(ValueError, match="batch of 3 cannot be shared by 2"):
        make_iterator(DataConfig(path=str(photos), batch=3), 0, 0, 2)
