"""Files with faults that cost no pixels are read, with a warning; those that lack pixels are not."""

import importlib.util
import io
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.inference.weird import DEEP, RGB, encoded, saved
from tests.inference.weird import png as layout
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


BOTH_DEPTHS = pytest.mark.parametrize("data", [saved(RGB, "PNG"), encoded(DEEP, ".png")], ids=["8", "16"])


@BOTH_DEPTHS
def test_damaged_pixels_are_an_error(tmp_path, data):
    start = data.index(b"IDAT") + 10
    with pytest.raises(ValueError, match=r"a.png can't be read as a picture: (its pixels are damaged|it ends before)"):
        read(tmp_path, "a.png", data[:start] + bytes([data[start] ^ 1]) + data[start + 1 :])


@BOTH_DEPTHS
def test_a_png_may_lack_its_end_and_a_checksum_of_what_another_checksum_proves(tmp_path, data):
    expected = read(tmp_path, "b.png", data)
    for end in (b"", data[-12:-5]):
        with pytest.warns(UserWarning, match=r"a.png: its end is missing, all pixels are there"):
            np.testing.assert_array_equal(read(tmp_path, "a.png", data[:-12] + end), expected)
    with pytest.warns(UserWarning, match=r"a.png: a checksum of its pixels is wrong, but the one within them is right"):
        np.testing.assert_array_equal(read(tmp_path, "a.png", data[:-16] + b"abcd" + data[-12:]), expected)


@BOTH_DEPTHS
def test_a_png_that_lacks_pixels_is_an_error(tmp_path, data):
    start = data.index(b"IDAT") + 4
    for length in (9, 15, 20, 30):
        with pytest.raises(ValueError, match=r"a.png can't be read as a picture: its header is cut off or damaged"):
            read(tmp_path, "a.png", data[:length])
    for length in (33, start - 4, start, start + 9, len(data) - 30):
        with pytest.raises(ValueError, match=r"a.png can't be read as a picture: it ends before all pixels are there"):
            read(tmp_path, "a.png", data[:length])


@pytest.mark.parametrize(("color_type", "pixels"), [(2, RGB), (6, DEEP)], ids=["8", "16"])
def test_a_png_whose_stream_is_whole_but_too_short_is_an_error(tmp_path, color_type, pixels):
    """Decoders make its last rows black."""
    short = layout(pixels[:-1], color_type)
    taller = short[:20] + struct.pack(">I", len(pixels)) + short[24:29]
    with pytest.raises(ValueError, match=r"a.png can't be read as a picture: it ends before all pixels are there"):
        read(tmp_path, "a.png", taller + struct.pack(">I", zlib.crc32(taller[12:29])) + short[33:])


@BOTH_DEPTHS
@pytest.mark.parametrize("behind", [b"text behind the end", b"\0\0\0\4tEXt", bytes(range(256))])
def test_what_lies_behind_a_pngs_end_is_nothing(tmp_path, data, behind):
    """Screenshots that were cropped in place have the rest of the larger file there. Warnings are errors here."""
    expected = read(tmp_path, "b.png", data)
    np.testing.assert_array_equal(read(tmp_path, "a.png", data + behind + data[50:]), expected)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (2, 9), (9, 2)])
def test_interlaced_pngs_are_read(capfd, depth, color_type, channels, size):
    pixels = np.random.default_rng(0).integers(0, 2**depth, (*size, channels)).astype(f"u{depth // 8}")
    np.testing.assert_array_equal(decode_picture(interlaced(pixels, color_type), "a.png").pixels, pixels)


def interlaced(pixels, color_type):
    """By the seven passes of the PNG specification, section 8.2."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    passes = [pixels[y::rows, x::columns] for y, x, rows, columns in starts]
    big_endian = f">u{pixels.itemsize}"
    data = b"".join(b"\0" + row.astype(big_endian).tobytes() for part in passes if part.size for row in part)
    plain = layout(pixels, color_type)
    header = plain[12:28] + b"\1"
    head = plain[:12] + header + struct.pack(">I", zlib.crc32(header))
    return head + png.join([(b"IDAT", zlib.compress(data)), (b"IEND", b"")])[len(png.SIGNATURE) :]


def test_a_png_of_no_width_is_an_error_of_its_own(tmp_path):
    (tmp_path / "a.png").write_bytes(png.join([(b"IHDR", struct.pack(">2I5B", 0, 5, 8, 2, 0, 0, 0))]))
    assert size_of(tmp_path / "a.png") is None
    with pytest.raises(ValueError, match=r"a.png can't be read as a picture: its header is damaged"):
        read_picture(tmp_path / "a.png")


@BOTH_DEPTHS
def test_exif_that_is_none_is_left_out(tmp_path, data):
    expected = read(tmp_path, "b.png", data)
    with pytest.warns(UserWarning, match=r"a.png: the EXIF data is damaged and left out"):
        np.testing.assert_array_equal(read(tmp_path, "a.png", with_chunk(data, b"eXIf", b"junk junk junk")), expected)


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


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_whose_rest_is_zeros_is_no_grey_picture(tmp_path, options):
    """Downloads and copies that break off often leave a file of full length. It has a thumbnail with an end marker."""
    thumbnail = Image.Exif()
    thumbnail[37500] = saved(PHOTO[:8, :8], "JPEG")
    data = saved(PHOTO, "JPEG", exif=thumbnail, **options)
    expected = read(tmp_path, "b.jpg", data)
    with pytest.warns(UserWarning, match=r"a.jpg: its end marker is missing, all pixels are there"):
        np.testing.assert_array_equal(read(tmp_path, "a.jpg", data[:-2] + b"\0" * 100), expected)
    with pytest.raises(ValueError, match=r"a.jpg can't be read as a picture: it ends before all pixels are there"):
        read(tmp_path, "a.jpg", data[: -len(data) // 4] + b"\0" * (len(data) // 4))
    # What lies behind the end is nothing.
    np.testing.assert_array_equal(read(tmp_path, "a.jpg", data + b"\0" * 100), expected)


@pytest.mark.parametrize("strips", [1, 2])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_tiff_that_lacks_strips_is_no_black_picture(tmp_path, capfd, depth, strips):
    """Its writer was stopped: the tags name less strips than there are, or such of no length."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, PHOTO.astype(depth), photometric="rgb", rowsperstrip=20)
    data = bytearray(stream.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        counts = file.pages.first.tags["StripByteCounts"]
        assert counts.count == 3
    if strips == 1:
        struct.pack_into("<I", data, counts.offset + 4, 2)
    else:
        size = struct.calcsize({3: "<H", 4: "<I"}[counts.dtype])
        data[counts.valueoffset + size : counts.valueoffset + 3 * size] = bytes(2 * size)
    with pytest.raises(ValueError, match=r"a.tif can't be read as a picture: it ends before all pixels are there"):
        read(tmp_path, "a.tif", data)
    with pytest.raises(ValueError, match=r"b.tif can't be read as a picture: it ends before all pixels are there"):
        read(tmp_path, "b.tif", b"II*\0\x08\0\0\0")
    assert capfd.readouterr().err == ""


def test_of_a_tiff_a_preview_is_taken_with_a_warning(tmp_path):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(PHOTO[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(PHOTO, photometric="rgb")
    with pytest.warns(UserWarning, match=r"a.tif: its first page, which is taken, is a preview of another one"):
        np.testing.assert_array_equal(read(tmp_path, "a.tif", stream.getvalue()), PHOTO[::4, ::4])


def test_a_pnm_goes_up_to_what_it_says(tmp_path):
    for kind, channels in ((b"P5", 1), (b"P6", 3)):
        values = DEEP[..., :channels] % 1001
        expected = values.astype(np.uint32) * 65535 // 1000
        data = kind + b" # a note\n7 5\n1000\n" + values.astype(">u2").tobytes()
        pixels = read(tmp_path, "a.png", data)
        np.testing.assert_array_equal(pixels, expected)
        # In an order of its bytes that OpenCV takes, too.
        assert cv2.resize(pixels, (14, 10)).shape[:2] == (10, 14)


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
