from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.weird import BROKEN, RGB, SRGB, saved, with_orientation
from tvt_jax.inference.batch import pair_files, upscale_file, upscale_files


def fill(folder, *names):
    """Files of these names, each an RGB picture in its ending's format."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(path)


def targets(pairs, folder):
    return {source.relative_to(folder).as_posix(): target.as_posix() for source, target in pairs}


def test_a_folder_keeps_names_and_places(tmp_path):
    fill(tmp_path, "a.png", "b/c.jpg", "b/d/e.tif", "f.PNG", "g.bmp", "h.gif")
    (tmp_path / "notes.txt").write_text("no picture")
    fill(tmp_path, ".hidden.png", ".cache/i.png")
    out = tmp_path.parent / "out"
    pairs = targets(pair_files(tmp_path, out), tmp_path)
    names = {"a.png": "a.png", "b/c.jpg": "b/c.jpg", "b/d/e.tif": "b/d/e.tif", "f.PNG": "f.PNG"}
    names |= {"g.bmp": "g.png", "h.gif": "h.png"}
    assert pairs == {source: (out / target).as_posix() for source, target in names.items()}


def test_out_inside_in_is_left_out(tmp_path):
    fill(tmp_path, "a.png", "out/a.png", "out/b/c.png")
    assert [source.name for source, _ in pair_files(tmp_path, tmp_path / "out")] == ["a.png"]


@pytest.mark.parametrize(
    ("source", "target", "error", "message"),
    [
        ("in", "in", ValueError, "is an input and would be overwritten"),
        ("in/a.png", "in/a.png", ValueError, "is an input and would be overwritten"),
        ("in/a.png", "out", ValueError, "isn't an ending that can be written"),
        ("in/a.png", "out.heic", ValueError, "isn't an ending that can be written"),
        ("in", "in/a.png", ValueError, "is a folder, so OUT must be one too"),
        ("in/none.png", "out.png", FileNotFoundError, "doesn't exist"),
        ("in/empty", "out", FileNotFoundError, "has no pictures in it"),
        ("clash", "out", ValueError, r"several pictures would be written to .*a\.png"),
    ],
)
def test_what_cannot_work_is_an_error_before_any_work(tmp_path, monkeypatch, source, target, error, message):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, "in/a.png", "clash/a.png", "clash/a.gif")
    (tmp_path / "in/empty").mkdir()
    with pytest.raises(error, match=message):
        pair_files(Path(source), Path(target))
    assert not (tmp_path / "out").exists()


def test_a_result_over_another_input_is_an_error(tmp_path):
    fill(tmp_path, "photos/x.png", "photos/photos/x.png")
    with pytest.raises(ValueError, match="is an input and would be overwritten"):
        pair_files(tmp_path / "photos", tmp_path)


def test_a_file_into_a_folder_keeps_its_name(tmp_path):
    fill(tmp_path, "a.gif")
    (tmp_path / "out").mkdir()
    assert pair_files(tmp_path / "a.gif", tmp_path / "out") == [(tmp_path / "a.gif", tmp_path / "out/a.png")]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's own, about broken files
def test_bad_files_are_reported_and_the_others_done(tmp_path, upscaler, capsys):
    (tmp_path / "in").mkdir()
    for name, data in BROKEN.items():
        (tmp_path / "in" / name).write_bytes(data)
    fill(tmp_path / "in", "a.png", "sub/z.webp")
    failures = upscale_files(upscaler, pair_files(tmp_path / "in", tmp_path / "out"), 2)
    assert {path.name for path in failures} == set(BROKEN)
    assert all("can't be read as a picture" in reason for reason in failures.values())
    results = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert results == {"a.png", "sub/z.webp"}
    assert capsys.readouterr().out.count("failed: ") == len(BROKEN)


def test_memory_that_runs_out_is_a_failure_of_one_file(tmp_path, upscaler, monkeypatch):
    fill(tmp_path, "in/a.png", "in/b.png")
    upscale, calls = type(upscaler).upscale, []

    def once(self, pixels, scale):
        calls.append(pixels)
        if len(calls) == 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.\nmore")
        return upscale(self, pixels, scale)

    monkeypatch.setattr(type(upscaler), "upscale", once)
    failures = upscale_files(upscaler, pair_files(tmp_path / "in", tmp_path / "out"), None)
    assert failures == {tmp_path / "in/a.png": "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes."}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


def test_a_turned_photo_is_turned_once(tmp_path, upscaler):
    (tmp_path / "a.jpg").write_bytes(saved(RGB, "JPEG", exif=with_orientation(6), icc_profile=SRGB))
    upscale_file(upscaler, tmp_path / "a.jpg", tmp_path / "b.jpg", 4)
    with Image.open(tmp_path / "b.jpg") as result:
        assert result.size == (20, 28)
        assert result.getexif().get(274, 1) == 1
        assert result.info["icc_profile"] == SRGB


def test_the_ending_decides_the_format(tmp_path, upscaler):
    fill(tmp_path, "a.png")
    for ending, image_format in {
        ".png": "PNG",
        ".JPG": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".tiff": "TIFF",
    }.items():
        upscale_file(upscaler, tmp_path / "a.png", tmp_path / f"b{ending}", 1)
        with Image.open(tmp_path / f"b{ending}") as result:
            assert (result.format, result.size) == (image_format, (7, 5))


def test_too_large_for_the_format_is_said_before_any_work(tmp_path, upscaler, monkeypatch):
    Image.fromarray(np.zeros((1, 4096, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(type(upscaler), "upscale", lambda *_: pytest.fail("worked"))
    with pytest.raises(ValueError, match=r"16384x4 is too large"):
        upscale_file(upscaler, tmp_path / "a.png", tmp_path / "a.webp", 4)
