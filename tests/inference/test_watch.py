import shutil
import time

import pytest

from tests.inference.test_batch import fill
from tests.inference.weird import RGB, saved
from tvt_jax.inference.command import main


@pytest.fixture
def looks(monkeypatch, enlarger, tmp_path):
    """Run the command, and at each pause between two looks one of the steps given; then Ctrl-C."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tvt_jax.inference.load", lambda *_, **__: enlarger)

    def run(words, *steps):
        remaining = list(steps)

        def pause(seconds):
            if not remaining:
                raise KeyboardInterrupt
            remaining.pop(0)()

        monkeypatch.setattr(time, "sleep", pause)
        return main([*words.split(), "--watch"])

    return run


def nothing():
    pass


def test_what_is_dropped_is_upscaled_once_it_stays_as_it_is(tmp_path, looks, capsys):
    (tmp_path / "in").mkdir()
    seen = []

    def drop_half():
        (tmp_path / "in/a.png").write_bytes(saved(RGB, "PNG")[:40])

    def drop_whole():
        fill(tmp_path, "in/a.png")

    def look():
        seen.append((tmp_path / "out/a.png").exists())

    assert looks("in out", nothing, drop_half, drop_whole, look, look) == 130
    # It is seen growing, then seen whole, then seen unchanged.
    assert seen == [False, True]
    assert capsys.readouterr().err == "interrupted; what is finished stays\n"


def test_a_bad_file_is_said_once_and_the_others_are_done(tmp_path, looks, capsys):
    fill(tmp_path, "in/a.png")
    (tmp_path / "in/b.png").write_bytes(b"text")
    looks("in out", nothing, nothing, nothing)
    assert capsys.readouterr().err.count("failed: in/b.png") == 1
    assert (tmp_path / "out/a.png").is_file()


def test_names_that_clash_are_said_once_and_the_others_are_done_later(tmp_path, looks, capsys):
    (tmp_path / "in").mkdir()

    def clash():
        fill(tmp_path, "in/a.png", "in/a.bmp")

    def rename():
        (tmp_path / "in/a.bmp").rename(tmp_path / "in/b.bmp")

    assert looks("in out", nothing, clash, nothing, nothing, rename, nothing) == 130
    assert capsys.readouterr().err.count("error: several pictures would be written to out/a.png") == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_what_cannot_work_from_the_start_is_an_error_at_once(tmp_path, looks, capsys):
    fill(tmp_path, "in/a.png", "in/a.bmp")
    assert looks("in out") == 1
    assert "error: several pictures would be written to out/a.png" in capsys.readouterr().err


def test_what_is_done_already_is_left(tmp_path, looks):
    fill(tmp_path, "in/a.png")
    looks("in out", nothing)
    inode = (tmp_path / "out/a.png").stat().st_ino
    looks("in out", nothing, lambda: shutil.copy(tmp_path / "in/a.png", tmp_path / "in/b.png"), nothing)
    assert (tmp_path / "out/a.png").stat().st_ino == inode
    assert (tmp_path / "out/b.png").is_file()


@pytest.mark.parametrize(("words", "what"), [("a.png out", "a.png"), ("- out", "-"), ("in -", "-")])
def test_a_file_is_not_watched(tmp_path, looks, capsys, words, what):
    fill(tmp_path, "a.png", "in/b.png")
    assert looks(words) == 1
    assert capsys.readouterr().err == f"error: {what} is no folder, and --watch watches folders\n"
