import numpy as np
import pytest
from PIL import Image

from tests.inference.weird import BROKEN, RGB, SRGB, saved, with_orientation
from tvt_jax.inference.batch import How, is_done, upscale_file, upscale_files
from tvt_jax.inference.images import read_mark
from tvt_jax.inference.places import place_files


def fill(folder, *names):
    """Files of these names, each an RGB picture in its ending's format."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(path)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's own, about broken files
def test_bad_files_are_reported_and_the_others_done(tmp_path, enlarger, capsys):
    (tmp_path / "in").mkdir()
    for name, data in BROKEN.items():
        (tmp_path / "in" / name).write_bytes(data)
    fill(tmp_path / "in", "a.png", "sub/z.webp")
    failures = upscale_files(enlarger, place_files([tmp_path / "in"], tmp_path / "out").pairs, 2)
    assert {path.name for path in failures} == set(BROKEN)
    assert all("can't be read as a picture" in reason for reason in failures.values())
    results = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert results == {"a.png", "sub/z.webp"}
    assert capsys.readouterr().err.count("failed: ") == len(BROKEN)


def test_memory_that_runs_out_is_a_failure_of_one_file(tmp_path, enlarger, monkeypatch):
    fill(tmp_path, "in/a.png", "in/b.png")
    upscale, calls = type(enlarger).upscale, []

    def once(self, pixels, scale, **options):
        calls.append(pixels)
        if len(calls) == 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.\nmore")
        return upscale(self, pixels, scale)

    monkeypatch.setattr(type(enlarger), "upscale", once)
    failures = upscale_files(enlarger, place_files([tmp_path / "in"], tmp_path / "out").pairs, None)
    assert failures == {tmp_path / "in/a.png": "RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes."}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


def test_a_turned_photo_is_turned_once(tmp_path, enlarger):
    (tmp_path / "a.jpg").write_bytes(saved(RGB, "JPEG", exif=with_orientation(6), icc_profile=SRGB))
    upscale_file(enlarger, tmp_path / "a.jpg", tmp_path / "b.jpg", 4)
    with Image.open(tmp_path / "b.jpg") as result:
        assert result.size == (20, 28)
        assert result.getexif().get(274, 1) == 1
        assert result.info["icc_profile"] == SRGB


def test_the_ending_decides_the_format(tmp_path, enlarger):
    fill(tmp_path, "a.png")
    for ending, image_format in {
        ".png": "PNG",
        ".JPG": "JPEG",
        ".jpeg": "JPEG",
        ".webp": "WEBP",
        ".tiff": "TIFF",
    }.items():
        upscale_file(enlarger, tmp_path / "a.png", tmp_path / f"b{ending}", 1)
        with Image.open(tmp_path / f"b{ending}") as result:
            assert (result.format, result.size) == (image_format, (7, 5))


def test_too_large_for_the_format_is_said_before_any_work(tmp_path, enlarger, monkeypatch):
    Image.fromarray(np.zeros((1, 4096, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(type(enlarger), "upscale", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(ValueError, match=r"16384x4 is too large"):
        upscale_file(enlarger, tmp_path / "a.png", tmp_path / "a.webp", 4)


def test_what_is_done_is_seen_by_content(tmp_path, enlarger):
    fill(tmp_path, "a.png")
    pair = (tmp_path / "a.png", tmp_path / "b.webp")
    assert not is_done(pair, "tvt model=1 options=2")
    upscale_file(enlarger, *pair, 2, How(recipe="tvt model=1 options=2"))
    assert is_done(pair, "tvt model=1 options=2")
    assert not is_done(pair, "tvt model=1 options=3")
    Image.fromarray(RGB[::-1]).save(tmp_path / "a.png")
    assert not is_done(pair, "tvt model=1 options=2")


def test_a_marked_input_gets_the_new_mark(tmp_path, enlarger):
    fill(tmp_path, "a.png")
    upscale_file(enlarger, tmp_path / "a.png", tmp_path / "b.png", 2, How(recipe="tvt model=1 options=1"))
    upscale_file(enlarger, tmp_path / "b.png", tmp_path / "c.png", 2, How(recipe="tvt model=2 options=2"))
    assert read_mark(tmp_path / "c.png").startswith("tvt model=2 options=2 input=")


def test_quality_makes_files_smaller_or_larger(tmp_path, enlarger):
    fill(tmp_path, "a.png")
    for ending in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (10, 95):
            upscale_file(enlarger, tmp_path / "a.png", tmp_path / f"b{ending}", 8, How(quality=quality))
            sizes.append((tmp_path / f"b{ending}").stat().st_size)
        assert sizes[0] < sizes[1]
