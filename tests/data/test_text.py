"""Pictures of text by index, from a folder whose letters are OpenCV's."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from benchmarks import text
from benchmarks.fine_structure.scene import lines_of
from tests.data.text_folder import write_text
from tvt_jax.data.pipeline import Batch, DataConfig, make_iterator
from tvt_jax.data.sources import open_source
from tvt_jax.data.text import drawings, scenes
from tvt_jax.data.text.excluded import excluded_face, excluded_word
from tvt_jax.data.text.ink import Line
from tvt_jax.data.text.manifest import TEXT_MANIFEST, load
from tvt_jax.data.text.source import SCENES, Scene, seen_aslant
from tvt_jax.data.text.studio import Studio


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


def take(config: DataConfig, count: int, after: int = 0) -> list[Batch]:
    """Batches `after` to `after + count`."""
    iterator = make_iterator(config, seed=0)
    iterator.set_state({"batches": after})
    batches = list(islice(iterator, count))
    iterator.close()
    return batches


def test_a_picture_depends_on_seed_and_index_alone(folder: Path, tmp_path: Path):
    one, other = open_source(folder), open_source(folder)
    assert len(one) == 1000
    backwards = {index: other[index] for index in (40, 3, 17)}
    for index, picture in backwards.items():
        np.testing.assert_array_equal(one[index], picture)
    assert (one[3] != one[17]).any()
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    known = json.loads((folder / TEXT_MANIFEST).read_text())
    (tmp_path / TEXT_MANIFEST).unlink()
    (tmp_path / TEXT_MANIFEST).write_text(json.dumps({**known, "seed": 1}))
    assert (open_source(tmp_path)[3] != one[3]).any()


def test_any_number_of_workers_gives_the_same(folder: Path):
    config = DataConfig(path=str(folder), crop=64, batch=4)
    there = take(config, 3)
    workers = take(DataConfig(path=str(folder), crop=64, batch=4, workers=2), 3)
    later = take(config, 1, after=2)
    for mine, theirs in zip([*there, there[2]], [*workers, *later], strict=True):
        np.testing.assert_array_equal(mine["hr"], theirs["hr"])


def test_text_is_never_turned_or_mirrored(folder: Path):
    """Crops as large as the pictures are the pictures."""
    source = open_source(folder)
    known = {source[index].tobytes() for index in range(1000)}
    batches = take(DataConfig(path=str(folder), crop=128, batch=16), 2)
    assert all(crop.tobytes() in known for batch in batches for crop in batch["hr"])


def test_photos_beside_text_are_turned(folder: Path, tmp_path: Path):
    Image.fromarray(np.uint8([[[250, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]])).save(tmp_path / "photo.png")
    config = DataConfig(path=str(tmp_path), mixed=((str(folder), 1.0),), crop=2, batch=64)
    (batch,) = take(config, 1)
    corners = {tuple(np.argwhere(crop[..., 0] == 250)[0]) for crop in batch["hr"] if (crop == 250).sum() == 1}
    assert {(0, 0), (0, 1), (1, 0), (1, 1)} <= corners


@pytest.mark.parametrize("scene", [scene for scene, _, _ in SCENES if scene is not drawings.gradient])
@pytest.mark.parametrize("side", [128, 256])
def test_no_picture_is_blank(folder: Path, scene: Scene, side: int):
    studio = Studio(load(folder))
    for seed in range(25):
        picture = scene(studio, np.random.default_rng(seed), side)
        assert picture.shape == (side, side, 3) and picture.dtype == np.uint8
        assert np.ptp(picture.max(axis=-1)) > 0 or np.ptp(picture.min(axis=-1)) > 0


def test_gradients_are_smooth_and_some_are_flat(folder: Path):
    studio = Studio(load(folder))
    flat = 0
    for seed in range(40):
        picture = drawings.gradient(studio, np.random.default_rng(seed), 128).astype(int)
        flat += not np.ptp(picture.reshape(-1, 3), axis=0).any()
        steps = np.sort(np.abs(np.diff(picture, axis=1)).max(axis=(0, 2)))
        assert steps[:-2].max() <= 5, "but for the sides of a rectangle, neighbours are alike"
    assert 4 <= flat <= 16


def test_pictures_do_without_photos_and_pages(folder: Path, tmp_path: Path):
    for name in (TEXT_MANIFEST, "lines.npy", "ink.npy", "breaks.npy"):
        (tmp_path / name).symlink_to(folder / name)
    studio = Studio(load(tmp_path))
    generator = np.random.default_rng(0)
    for drawn in (scenes.rasterised, scenes.sign):
        assert np.ptp(drawn(studio, generator, 128)) > 0


def test_seen_from_the_side_it_stays_sharp():
    """An edge of a picture twice as large takes no more than three pixels."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:, 128:] = 255
    for seed in range(10):
        row = seen_aslant(picture, np.random.default_rng(seed))[64, 32:96, 0].astype(int)
        assert ((row > 10) & (row < 245)).sum() <= 3


def test_lines_are_cut_between_letters():
    ink = np.zeros((4, 40), np.uint8)
    ink[:, 1:9] = ink[:, 11:19] = ink[:, 21:29] = ink[:, 31:39] = 255
    line = Line(ink, 4, np.array([0, 10, 20, 30]), np.array([0, 20]))
    for seed in range(20):
        part = line.cut(21, np.random.default_rng(seed))
        assert not part[:, 0].any() and not part[:, -1].any() and part.any()
    assert line.word(40, np.random.default_rng(0)).shape == (4, 18)


def test_the_faces_of_the_benchmarks_are_excluded():
    files = [*text.bundled_fonts(), *text.chinese_fonts()]
    families = [ImageFont.truetype(file, 10).getname()[0] for file in files]
    assert len(families) == 8
    assert all(excluded_face(str(family)) for family in families)
    assert not excluded_face("Noto Sans") and not excluded_face("Liberation Serif")


def test_the_words_of_the_benchmarks_are_excluded():
    signs = [line.text for lines in lines_of().values() for line in lines]
    words = [word for sign in signs for word in sign.split()] + list(text._WORDS)
    # What is left over are numbers and syllables of one or two letters: they are in any text.
    kept = [word for word in words if not excluded_word(word)]
    assert all(sum(character.isalpha() for character in word) < 3 for word in kept), kept
    assert all(excluded_word(word.capitalize() + ",") for word in text._WORDS)
    assert not excluded_word("installation")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": ["DejaVu Sans", "Other"]}, "names DejaVu Sans, a face that is kept for measuring"),
        ({"families": None}, r"text\.json is no list of faces and scripts"),
        ({"surprise": 1}, "surprise"),
        ({"examples": 0}, "0 examples of 128 pixels"),
        ({"scripts": ["latin", "zh", "ja", "code"]}, "has no line of figures"),
    ],
)
def test_a_bad_manifest_is_named(folder: Path, tmp_path: Path, change: dict, message: str):
    for file in folder.glob("*.npy"):
        (tmp_path / file.name).symlink_to(file)
    known = json.loads((folder / TEXT_MANIFEST).read_text())
    (tmp_path / TEXT_MANIFEST).write_text(json.dumps({**known, **change}))
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path)


def test_a_missing_or_damaged_array_is_named(folder: Path, tmp_path: Path):
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "ink.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"ink\.npy is missing: give the tools/fetch_text\.py command again"):
        open_source(tmp_path)
    (tmp_path / "ink.npy").write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"ink\.npy is damaged"):
        open_source(tmp_path)
    (tmp_path / "ink.npy").unlink()
    np.save(tmp_path / "ink.npy", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"ink\.npy has the shape \(2, 2\)"):
        open_source(tmp_path)
