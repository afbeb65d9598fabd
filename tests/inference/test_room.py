"""What can't be written is refused in one sentence, before anything is computed."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.test_batch import fill
from tvt_jax.files import check_writable
from tvt_jax.inference.images import Picture
from tvt_jax.inference.room import check_room
from tvt_jax.inference.writing import write_picture


def failing(number):
    def touch(self, *_):
        raise OSError(number, "what the system says")

    return touch


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_read_only_place_is_refused(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "touch", failing(number))
    with pytest.raises(ValueError, match=rf"a.png can't be written: {tmp_path}/new is read-only"):
        check_writable(tmp_path / "new" / "a.png")
    assert not (tmp_path / "new").exists()


def test_a_place_below_a_file_is_refused(tmp_path):
    fill(tmp_path, "a.png")
    with pytest.raises(ValueError, match=rf"can't be written: {tmp_path}/a.png is a file, not a folder"):
        check_writable(tmp_path / "a.png" / "b" / "c.png")


def test_a_folder_in_the_place_is_refused(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ValueError, match=r"a.png can't be written: it is a folder"):
        check_writable(tmp_path / "a.png")


def test_a_name_is_too_long_only_where_the_system_says_so(tmp_path):
    longest = tmp_path / ("ä" * 125 + "a.png")
    check_writable(longest)
    write_picture(longest, Picture(pixels=np.zeros((2, 2, 3), np.uint8)))
    assert [path.name for path in tmp_path.iterdir()] == [longest.name]
    with pytest.raises(ValueError, match="can't be written: the name is too long"):
        check_writable(tmp_path / ("b" * 252 + ".png"))
    with pytest.raises(ValueError, match="can't be written: the name is too long"):
        check_writable(tmp_path / ("c" * 256) / "a.png")


def test_trying_leaves_nothing_but_folders(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    check_writable(tmp_path / "a.png")
    check_writable(tmp_path / "b" / "c.png")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "b"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_a_disk_that_is_too_full_is_refused(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(tmp_path / "a.png")
    pairs = [(tmp_path / "a.png", tmp_path / "out" / name) for name in ("a.png", "b.png")]
    # Two of 800 by 400 pixels, .8 bytes each.
    need = 2 * 800 * 400 * 0.8
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, int(need)))
    check_room(pairs, 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, int(need) - 1))
    with pytest.raises(ValueError, match=r"need about 0\.5 MB, that of .*a.png 0\.3 MB, and .*out has 0\.5 MB"):
        check_room(pairs, 4)
