import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.inference.weird import BROKEN, CMYK, DEEP, FILES, RGB, RGBA, SRGB, encoded, saved, with_orientation
from tvt_jax.inference.channels import resize, spread_color, to_grey
from tvt_jax.inference.images import Picture, read_picture
from tvt_jax.inference.writing import check_size, write_picture


def read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return read_picture(tmp_path / name)


@pytest.mark.parametrize("name", FILES)
def test_every_kind_is_read(tmp_path, name):
    data, shape = FILES[name]
    picture = read(tmp_path, name, data)
    assert picture.pixels.shape == shape
    assert picture.pixels.dtype == (np.uint16 if "16" in name else np.uint8)


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's own, about what it found before it gave up
def test_a_broken_file_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name} can't be read as a picture: .+"):
        read(tmp_path, name, BROKEN[name])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright(tmp_path, image_format, orientation):
    # Two flat halves a side, that survive JPEG: which corner is bright tells the orientation, the shape the rest.
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:8, :16] = 255
    # EXIF 2.3: where the stored first row and column are to be seen.
    turns = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }
    data = saved(np.dstack([pixels] * 3), image_format, exif=with_orientation(orientation))
    upright = read(tmp_path, "a", data).pixels[..., 0]
    np.testing.assert_array_equal(upright > 127, turns[orientation](pixels) > 127)


def test_orientation_of_a_16_bit_png(tmp_path):
    data = encoded(DEEP[..., :3], ".png")
    exif = with_orientation(6).tobytes()[6:]
    chunk = len(exif).to_bytes(4, "big") + b"eXIf" + exif
    chunk += zlib.crc32(chunk[4:]).to_bytes(4, "big")
    turned = read(tmp_path, "a.png", data[:33] + chunk + data[33:]).pixels
    np.testing.assert_array_equal(turned, np.rot90(read(tmp_path, "b.png", data).pixels, -1))


def test_cmyk_goes_by_its_profile_to_srgb(tmp_path):
    plain = read(tmp_path, "plain.tif", saved(CMYK, "TIFF")).pixels
    np.testing.assert_array_equal(plain, np.asarray(CMYK.convert("RGB")))
    # A profile that isn't CMYK's can't be applied; the plain formula is.
    wrong = read(tmp_path, "wrong.tif", saved(CMYK, "TIFF", icc_profile=SRGB))
    np.testing.assert_array_equal(wrong.pixels, plain)
    assert wrong.icc_profile is None


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp", ".tif"])
def test_profile_is_kept(tmp_path, ending):
    picture = Picture(pixels=RGB, icc_profile=SRGB)
    write_picture(tmp_path / f"a{ending}", picture)
    assert read_picture(tmp_path / f"a{ending}").icc_profile == SRGB


def test_profile_of_a_16_bit_tiff_is_kept(tmp_path):
    # Pillow writes no 16-bit RGB TIFF: take the tag from an 8-bit one's directory.
    ok, data = cv2.imencode(".tif", DEEP[..., :3])
    assert ok
    profiled = add_tiff_tag(data.tobytes(), 34675, SRGB)
    assert read(tmp_path, "a.tif", profiled).icc_profile == SRGB


def add_tiff_tag(data, tag, value):
    """Append a copy of a little-endian TIFF's directory with one more entry of type UNDEFINED."""
    begin = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[begin : begin + 2], "little")
    entries = [data[begin + 2 + 12 * i : begin + 14 + 12 * i] for i in range(count)]
    entry = b"".join(n.to_bytes(size, "little") for n, size in [(tag, 2), (7, 2), (len(value), 4), (len(data), 4)])
    entries = sorted([*entries, entry], key=lambda e: int.from_bytes(e[:2], "little"))
    directory = len(entries).to_bytes(2, "little") + b"".join(entries) + bytes(4)
    return data[:4] + (len(data) + len(value)).to_bytes(4, "little") + data[8:] + value + directory


def test_a_profile_for_another_color_space_is_dropped(tmp_path):
    assert read(tmp_path, "a.jpg", saved(RGB[..., 0], "JPEG", icc_profile=SRGB)).icc_profile is None


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("pixels", [RGB[..., :1], RGB[..., :2], RGB, RGBA], ids=["L", "LA", "RGB", "RGBA"])
def test_lossless_formats_return_what_was_written(tmp_path, ending, pixels):
    write_picture(tmp_path / f"a{ending}", Picture(pixels=pixels))
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{ending}").pixels, pixels)


@pytest.mark.parametrize("channels", [2, 4])
def test_jpeg_lays_alpha_over_white(tmp_path, channels):
    pixels = np.zeros((16, 16, channels), np.uint8)
    pixels[:8, :, -1] = 255
    write_picture(tmp_path / "a.jpg", Picture(pixels=pixels))
    result = read_picture(tmp_path / "a.jpg").pixels
    assert result.shape == (16, 16, channels - 1)
    assert result[:8].max() < 8
    assert result[8:].min() > 247


def test_webp_keeps_alpha(tmp_path):
    write_picture(tmp_path / "a.webp", Picture(pixels=RGBA))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.webp").pixels[..., 3], RGBA[..., 3])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"old")

    def save(image, stream, **options):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="No space left"):
        write_picture(tmp_path / "a.png", Picture(pixels=RGB))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_write_makes_folders_and_replaces(tmp_path):
    for pixels in (RGB, RGBA):
        write_picture(tmp_path / "b" / "c" / "a.PNG", Picture(pixels=pixels))
    np.testing.assert_array_equal(read_picture(tmp_path / "b" / "c" / "a.PNG").pixels, RGBA)


def test_an_unknown_ending_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"a\.bmp: '\.bmp' isn't an ending that can be written, use one of \.png"):
        write_picture(tmp_path / "a.bmp", Picture(pixels=RGB))


def test_a_size_that_the_format_cannot_hold_is_an_error(tmp_path):
    check_size(tmp_path / "a.tif", 100_000, 10)
    with pytest.raises(ValueError, match=r"20000x10 is too large for this format \(at most 16383\)"):
        check_size(tmp_path / "a.webp", 10, 20_000)


def test_hidden_color_is_the_nearest_visible_one():
    color = np.zeros((4, 6, 3), np.uint8)
    color[:, 0], color[:, 5] = 200, 90
    alpha = np.zeros((4, 6), np.uint8)
    alpha[:, [0, 5]] = 255
    spread = spread_color(color, alpha)
    np.testing.assert_array_equal(spread[..., 0], [[200, 200, 200, 90, 90, 90]] * 4)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_color_stays_where_alpha_is_even(value):
    np.testing.assert_array_equal(spread_color(RGB, np.full(RGB.shape[:2], value, np.uint8)), RGB)


def test_grey_of_grey_is_itself():
    grey = RGB[..., :1]
    np.testing.assert_array_equal(to_grey(np.repeat(grey, 3, -1)), grey[..., 0])


def test_resize_is_pillow_s_bicubic():
    expected = Image.fromarray(RGB).resize((28, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resize(RGB, (20, 28), Image.Resampling.BICUBIC), np.asarray(expected))
