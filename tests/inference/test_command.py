"""The command from its words to its exit status, with an upscaler that repeats pixels."""

import io
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from tests.inference.test_batch import fill
from tests.inference.weird import DEEP, RGB, encoded, saved
from tvt_jax.inference.command import main
from tvt_jax.inference.images import decode_picture, read_picture


@pytest.fixture(autouse=True)
def loads(monkeypatch, enlarger, tmp_path):
    """Where the networks would be: what was loaded, with which options."""
    loaded = []

    def load(model, **options):
        loaded.append(options)
        return enlarger

    monkeypatch.setattr("tvt_jax.inference.load", load)
    monkeypatch.chdir(tmp_path)
    return loaded


@pytest.fixture
def pipe(monkeypatch):
    def give(data):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        out = SimpleNamespace(buffer=io.BytesIO())
        monkeypatch.setattr(sys, "stdout", out)
        return out.buffer

    return give


def test_a_picture_and_folders(tmp_path, loads, capsys):
    fill(tmp_path, "a.png", "in/b.jpg", "in/c/d.webp")
    (tmp_path / "in/notes.txt").write_text("no picture")
    assert main("a.png out.png --scale 2".split()) == 0
    assert read_picture(tmp_path / "out.png").pixels.shape == (10, 14, 3)
    assert main("a.png in out --suffix _x --format png".split()) == 0
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a_x.png", "b_x.png", "d_x.png"]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "passed by 1:\n  1 of another kind: in/notes.txt\n"


def test_of_what_is_passed_by_50_are_named(tmp_path, capsys):
    fill(tmp_path, "in/a.png")
    for i in range(53):
        (tmp_path / f"in/{i:02}.txt").touch()
    assert main("in out".split()) == 0
    said = capsys.readouterr().err
    assert said.startswith("passed by 53:\n  53 of another kind: in/00.txt, in/01.txt")
    assert said.endswith(", in/49.txt and 3 more\n")


@pytest.mark.parametrize("out", ["new", "new.d/", "there"])
def test_out_may_be_a_folder_that_is_not_there_yet(tmp_path, out):
    fill(tmp_path, "a.png")
    (tmp_path / "there").mkdir()
    assert main(["a.png", out]) == 0
    assert (tmp_path / out / "a.png").is_file()


def test_failures_are_told_on_stderr_and_by_the_exit_status(tmp_path, capsys):
    fill(tmp_path, "in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"text")
    assert main("in out".split()) == 1
    said = capsys.readouterr()
    assert said.out == "" and "failed: in/b.png: can't be read" in said.err
    assert said.err.endswith("error: 1 of 2 pictures failed:\n  in/b.png\n")
    assert (tmp_path / "out/a.png").is_file()


def test_the_exit_status_tells_a_wrong_command_line(monkeypatch, capsys):
    assert main(["a.png"]) == 2
    with pytest.raises(SystemExit) as exit:
        main("a.png b.png --nonsense".split())
    assert exit.value.code == 2
    monkeypatch.setattr("tvt_jax.inference.job.settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main("a.png b.png".split()) == 130
    assert capsys.readouterr().err.endswith("interrupted; what is finished stays\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("none.png b.png", "none.png doesn't exist"),
        ("a.png a.png/b.png", "a.png/b.png can't be written: a.png is a file, not a folder"),
        ("a.png b.png --quality 50", "quality=50 is for JPEG, WEBP, AVIF, and no result is one of them"),
        ("a.png b.jpg --quality 0", "quality=0 is out of range, use 1 to 100"),
        ("a.png b.jpg --scale 9", "scale=9.0 is out of range, use 1 to 8 (fractions too)"),
        ("a.png b.png --format jpeg", "b.png ends like PNG, and --format asks for JPEG"),
        ("a.png b.png --strength 2", "strength=2 is out of range, use 0 (the enlarged input) to 1"),
        ("a.png - --skip-existing", "--skip-existing looks for files, and - is none: drop one of them"),
        ("a.png - out", "- is one picture: it can't go together with others"),
        ("in - ", "in is no file, and what goes to standard output must be one picture"),
        ("- b.png --format jpeg", "b.png ends like PNG, and --format asks for JPEG"),
        ("- b.png --suffix _x", "--suffix names files, and - is none: drop one of them"),
        ("- in/none/", "in/none: '' isn't an ending that can be written, use one of .png"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_loaded(tmp_path, loads, capsys, words, message):
    fill(tmp_path, "a.png", "in/b.png")
    assert main(words.split()) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not loads


def test_what_is_done_is_left_out_until_something_changes(tmp_path, loads, capsys):
    fill(tmp_path, "in/a.png", "in/b.png")
    model = tmp_path / "model"
    model.mkdir()
    (model / "tvt.json").write_text("{}")
    words = "in out --skip-existing --model model".split()

    def times(*more):
        results = [tmp_path / "out" / name for name in ("a.png", "b.png")]
        before = [path.stat().st_ino if path.exists() else None for path in results]
        assert main([*words, *more]) == 0
        return [path.stat().st_ino != inode for path, inode in zip(results, before, strict=True)]

    assert times() == [True, True]
    loads.clear()
    assert times() == [False, False]
    assert not loads
    assert "left out 2 that are done already" in capsys.readouterr().err
    Image.fromarray(RGB[::-1]).save(tmp_path / "in/a.png")
    assert times() == [True, False]
    for option in (
        "--scale 2",
        "--strength .5",
        "--color-fix none",
        "--tile 96",
        "--dtype bfloat16",
        "--strip-metadata",
    ):
        assert times(*option.split()) == [True, True], option
        assert times(*option.split()) == [False, False], option
    (model / "tvt.json").write_text('{"scale": 2}')
    assert times("--strip-metadata") == [True, True]


def test_results_are_not_upscaled_again(tmp_path, capsys):
    fill(tmp_path, "in/a.png")
    for _ in range(2):
        assert main("in in --suffix _x".split()) == 0
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["a.png", "a_x.png"]
    assert "passed by 1:\n  1 made by tvt before: in/a_x.png" in capsys.readouterr().err
    # Asked for by name, one is.
    assert main("in/a_x.png in/b.png".split()) == 0


def test_through_standard_input_and_output(tmp_path, pipe):
    out = pipe(encoded(DEEP[..., :3], ".png"))
    assert main("- - --scale 2".split()) == 0
    assert decode_picture(out.getvalue(), "out").pixels.dtype == np.uint16
    out = pipe(saved(RGB, "PNG"))
    assert main("- - --format webp".split()) == 0
    assert Image.open(io.BytesIO(out.getvalue())).format == "WEBP"
    pipe(saved(RGB, "BMP"))
    assert main("- b.jpg".split()) == 0
    out = pipe(b"")
    assert main("b.jpg - --format tiff --scale 1".split()) == 0
    assert Image.open(io.BytesIO(out.getvalue())).size == (28, 20)


def test_what_comes_through_standard_input_must_be_a_picture(pipe, capsys):
    out = pipe(b"text")
    assert main("- -".split()) == 1
    assert out.getvalue() == b""
    message = "error: standard input can't be read as a picture: its content is of no kind that is known\n"
    assert capsys.readouterr().err == message


def test_a_device_that_is_not_there_is_said(tmp_path, loads, capsys):
    fill(tmp_path, "a.png")
    before = jax.config.jax_platforms
    try:
        assert main("a.png b.png --device cpu".split()) == 0
        assert len(loads) == 1
        assert main("a.png b.png --device tpu".split()) == 1
    finally:
        jax.config.update("jax_platforms", before)
    assert capsys.readouterr().err == "error: jax sees no tpu: drop --device, or install jax for it\n"
    assert len(loads) == 1


def test_warnings_are_one_line(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(saved(RGB, "JPEG")[:-2])
    assert main("a.jpg b.jpg".split()) == 0
    assert capsys.readouterr().err == "warning: a.jpg: its end marker is missing, all pixels are there\n"


def test_the_strengths_are_told_and_make_another_result(loads):
    Image.fromarray(RGB).save("a.png")
    marks = set()
    for strength in ("1.0", "0.5"):
        assert main(["a.png", "b.png", "--strength-pixel", "0.8", "--strength-semantic", strength]) == 0
        assert (loads[-1]["strength_pixel"], loads[-1]["strength_semantic"]) == (0.8, float(strength))
        with Image.open("b.png") as result:
            marks.add(result.getexif()[11])
    assert len(marks) == 2
