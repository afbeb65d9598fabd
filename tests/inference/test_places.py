import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.test_batch import fill
from tvt_jax.inference.images import Picture
from tvt_jax.inference.metadata import Metadata
from tvt_jax.inference.places import Naming, place_files
from tvt_jax.inference.writing import write_picture


def targets(places, folder):
    return {source.relative_to(folder).as_posix(): target.as_posix() for source, target in places.pairs}


def made_by_tvt(path):
    metadata = Metadata().marked("tvt model=1 options=2 input=3")
    write_picture(path, Picture(pixels=np.zeros((2, 2, 3), np.uint8), metadata=metadata))


def test_a_folder_keeps_names_and_places_and_names_what_it_passes_by(tmp_path):
    fill(tmp_path, "a.png", "b/c.jpg", "b/d/e.tif", "f.PNG", "g.bmp", "h.gif", "i.jfif", "j.avif")
    (tmp_path / "notes.txt").write_text("no picture")
    fill(tmp_path, ".hidden.png", ".cache/i.png")
    made_by_tvt(tmp_path / "b/c_4x.tif")
    out = tmp_path.parent / "out"
    places = place_files([tmp_path], out)
    names = {name: name for name in ("a.png", "b/c.jpg", "b/d/e.tif", "f.PNG", "i.jfif", "j.avif")}
    names |= {"g.bmp": "g.png", "h.gif": "h.png"}
    assert targets(places, tmp_path) == {source: (out / target).as_posix() for source, target in names.items()}
    assert {path.relative_to(tmp_path).as_posix(): why for path, why in places.passed.items()} == {
        ".hidden.png": "hidden",
        ".cache": "hidden",
        "notes.txt": "of another kind",
        "b/c_4x.tif": "made by tvt before",
    }


def test_out_inside_in_is_left_out(tmp_path):
    fill(tmp_path, "a.png", "out/a.png", "out/b/c.png")
    places = place_files([tmp_path], tmp_path / "out")
    assert [source.name for source, _ in places.pairs] == ["a.png"]
    assert places.passed == {tmp_path / "out": "results"}


def test_linked_folders_are_followed_once(tmp_path):
    fill(tmp_path, "in/a/x.png", "elsewhere/y.png")
    os.symlink("a", tmp_path / "in/0")
    os.symlink("..", tmp_path / "in/a/up")
    os.symlink("../elsewhere", tmp_path / "in/b")
    os.symlink("../elsewhere", tmp_path / "in/c")
    places = place_files([tmp_path / "in"], tmp_path / "out")
    assert set(targets(places, tmp_path / "in")) == {"a/x.png", "b/y.png"}
    assert {path.name for path in places.passed} == {"0", "up", "c"}


def test_links_to_themselves_and_closed_folders_are_passed_by(tmp_path, monkeypatch):
    fill(tmp_path, "in/a.png", "in/closed/b.png")
    for name in ("loop.png", "loop"):
        os.symlink(name, tmp_path / "in" / name)
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "closed")  # to root every folder is open
    places = place_files([tmp_path / "in"], tmp_path / "out")
    assert set(targets(places, tmp_path / "in")) == {"a.png"}
    assert {path.name: why for path, why in places.passed.items()} == {
        "loop.png": "of another kind",
        "loop": "of another kind",
        "closed": "not open to you",
    }


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        ("in", "in", ValueError, "is an input and would be overwritten"),
        ("in/a.png", "in/a.png", ValueError, "is an input and would be overwritten"),
        ("in/a.png", "out.heic", ValueError, "isn't an ending that can be written"),
        ("in", "in/a.png", ValueError, "is a file, and OUT must be a folder here"),
        ("in/none.png", "out.png", FileNotFoundError, "doesn't exist"),
        ("in/empty", "out", FileNotFoundError, "has no pictures in it"),
        ("results", "out", FileNotFoundError, "has no pictures in it but results of tvt"),
        ("clash", "out", ValueError, r"several pictures would be written to .*a\.png"),
    ],
)
def test_what_cannot_work_is_an_error_before_any_work(tmp_path, monkeypatch, source, target, error, message):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "in/a.png", "clash/a.png", "clash/a.gif")
    made_by_tvt(tmp_path / "results/a.png")
    (tmp_path / "in/empty").mkdir()
    with pytest.raises(error, match=message):
        place_files([Path(source)], Path(target))
    assert not (tmp_path / "out").exists()


def test_a_result_over_another_input_is_an_error(tmp_path):
    fill(tmp_path, "photos/x.png", "photos/photos/x.png")
    with pytest.raises(ValueError, match="is an input and would be overwritten"):
        place_files([tmp_path / "photos"], tmp_path)


@pytest.mark.parametrize("out", ["there", "not_there_yet"])
def test_a_file_into_a_folder_keeps_its_name(tmp_path, out):
    fill(tmp_path, "a.gif")
    (tmp_path / "there").mkdir()
    assert place_files([tmp_path / "a.gif"], tmp_path / out).pairs == [(tmp_path / "a.gif", tmp_path / out / "a.png")]


def test_several_sources_go_into_one_folder(tmp_path):
    fill(tmp_path, "a.png", "x/b.png", "y/b.png")
    out = tmp_path / "out.d"
    pairs = place_files([tmp_path / name for name in ("a.png", "x", "y")], out).pairs
    assert [target.relative_to(out).as_posix() for _, target in pairs] == ["a.png", "x/b.png", "y/b.png"]


def test_results_are_named(tmp_path):
    fill(tmp_path, "a.jpe", "b.gif")
    for naming, names in [
        (Naming(suffix="_4x"), ["a_4x.jpe", "b_4x.png"]),
        (Naming(image_format="JPEG"), ["a.jpe", "b.jpg"]),
        (Naming(suffix="-x", image_format="AVIF"), ["a-x.avif", "b-x.avif"]),
    ]:
        pairs = place_files([tmp_path], tmp_path.parent / "out", naming).pairs
        assert [target.name for _, target in pairs] == names
    # With a suffix, results may lie beside their inputs.
    assert place_files([tmp_path], tmp_path, Naming(suffix="_4x")).pairs[0][1] == tmp_path / "a_4x.jpe"


def test_names_that_contradict_each_other_are_errors(tmp_path):
    fill(tmp_path, "a.png")
    with pytest.raises(ValueError, match="drop one of them"):
        place_files([tmp_path / "a.png"], tmp_path / "b.png", Naming(suffix="_4x"))
    with pytest.raises(ValueError, match=r"b.png ends like PNG, and --format asks for JPEG"):
        place_files([tmp_path / "a.png"], tmp_path / "b.png", Naming(image_format="JPEG"))


def test_a_picture_is_marked_by_tvt_alone(tmp_path):
    image, exif = Image.new("RGB", (2, 2)), Image.Exif()
    exif[11] = "tvtools 1.0"
    image.save(tmp_path / "a.png", exif=exif)
    assert len(place_files([tmp_path], tmp_path / "out").pairs) == 1
