"""Files with faults that cost no pixels are read, with a warning; those that lack pixels are not."""

import importlib.util
import io
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.inference.weird import DEEP, RGB, encoded, saved
from tvt_jax.inference import png
from tvt_jax.inference.images import READABLE, decode_picture, read_picture, size_in, size_of

PHOTO = np.asarray(Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)).resize((80, 60), 2))


def with_chunk(data, name, body, damage=False):
    """A PNG with one more chunk behind its header."""
    start = len(png.SIGNATURE) + 25
    chunk = png.join([(name, body)])[len(png.SIGNATURE) :]
    return data[:start] + (chunk[:-4] + b"\0\0\0\0" if damage else chunk) + data[start:]


def read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return read_picture(tmp_path / name).pixels


@pytest.mark.parametrize("data", [saved(RGB, "PNG"), encoded(DEEP, ".png")], ids=["8", "16"])
@pytest.mark.parametrize("name", [b"zTXt", b"tEXt", b"iTXt", b"iCCP"])
def test_large_texts_and_profiles_are_read(tmp_path, data, name):
    large = zlib.compress(b"x" * 3_000_000)
    bodies = {b"tEXt": b"a\0" + b"x" * 3_000_000, b"iTXt": b"a\0\1\0\0\0" + large}
    large_file = with_chunk(data, name, bodies.get(name, b"a\0\0" + large))
    np.testing.assert_array_equal(read(tmp_path, "a.png", large_file), read(tmp_path, "b.png", data))
    assert size_of(tmp_path / "a.png") == (5, 7)


@pytest.mark.parametrize("data", [saved(RGB, "PNG"), encoded(DEEP, ".png")], ids=["8", "16"])
@pytest.mark.parametrize("name", [b"tEXt", b"iCCP", b"eXIf", b"pHYs", b"prVt"])
def test_a_wrong_checksum_beside_the_pixels_is_a_warning(tmp_path, data, name):
    expected = read(tmp_path, "b.png", data)
    with pytest.warns(UserWarning, match=rf"a.png: left out what has a wrong checksum \({name.decode()}\)"):
        np.testing.assert_array_equal(read(tmp_path, "a.png", with_chunk(data, name, b"a\0b", damage=True)), expected)


@pytest.mark.parametrize("data", [saved(RGB, "PNG"), encoded(DEEP, ".png")], ids=["8", "16"])
def test_a_wrong_checksum_of_the_pixels_is_an_error(tmp_path, data):
    start = data.index(b"IDAT") + 10
    with pytest.raises(ValueError, match=r"a.png can't be read as a picture"):
        read(tmp_path, "a.png", data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True, "quality": 30}])
@pytest.mark.parametrize("pixels", [PHOTO, PHOTO[..., 0]], ids=["color", "grey"])
def test_a_jpeg_without_its_end_is_read_if_all_pixels_are_there(tmp_path, options, pixels):
    data = saved(pixels, "JPEG", **options)
    expected = read(tmp_path, "b.jpg", data)
    for missing in (1, 2):
        with pytest.warns(UserWarning, match=r"a.jpg: its end marker is missing, all pixels are there"):
            np.testing.assert_array_equal(read(tmp_path, "a.jpg", data[:-missing]), expected)
    for missing in (5, 6, 9, 20, len(data) // 3):
        with pytest.raises(ValueError, match=r"a.jpg can't be read as a picture: it ends before all pixels are there"):
            read(tmp_path, "a.jpg", data[:-missing])


def test_what_is_no_picture_is_said_in_one_sentence(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"text")
    with pytest.raises(ValueError) as error:
        read_picture(tmp_path / "a.jpg")
    message = f"{tmp_path}/a.jpg can't be read as a picture: its content is of no kind that is known"
    assert str(error.value) == message


@pytest.mark.parametrize(("ending", "kind"), [(".jfif", "JPEG"), (".jpe", "JPEG"), (".avif", "AVIF")])
def test_less_common_endings_are_read(tmp_path, ending, kind):
    assert ending in READABLE
    assert read(tmp_path, f"a{ending}", saved(RGB, kind)).shape == RGB.shape


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="needs pillow-heif")
def test_heic_is_read(tmp_path):
    from pillow_heif import from_pillow

    stream = io.BytesIO()
    from_pillow(Image.fromarray(PHOTO)).save(stream, quality=95)
    assert {".heic", ".heif"} <= READABLE
    assert np.abs(read(tmp_path, "a.heic", stream.getvalue()).astype(int) - PHOTO).mean() < 8
    assert size_of(tmp_path / "a.heic") == (60, 80)


def test_heic_without_its_library_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"a.heic .* need pillow-heif: pip install 'tvt-jax\[heic\]'"):
        read(tmp_path, "a.heic", b"\0\0\0\x18ftypheic" + b"\0" * 50)


def test_sizes_are_told_by_headers_alone():
    """Also of files that Pillow doesn't open: a planar TIFF of 16 bits, a PNG with damage before its pixels."""
    planar = io.BytesIO()
    tifffile.imwrite(planar, np.zeros((3, 5, 7), np.uint16), photometric="rgb", planarconfig="separate")
    planar.seek(0)
    assert size_in(planar) == (5, 7)
    damaged = with_chunk(saved(RGB, "PNG"), b"gAMA", b"abcd", damage=True)
    assert size_in(io.BytesIO(damaged)) == (5, 7)
    assert size_in(io.BytesIO(saved(RGB, "JPEG"))) == (5, 7)
    assert size_in(io.BytesIO(b"II*\0text")) is None


@pytest.mark.parametrize("image_format", ["EPS", "PCX", "TGA", "PDF"])
def test_other_kinds_are_refused_whatever_their_name(image_format):
    with pytest.raises(ValueError, match=r"a.png can't be read as a picture: its content is of no kind that is known"):
        decode_picture(saved(RGB, image_format), "a.png")
