"""Images by index: every kind of file, and files that are none."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.data.sources import (
    FolderSource,
    ReadableSource,
    UnreadableImageError,
    decode_image,
    list_images,
    open_source,
)

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of which the second and third are damaged."""
    for index in range(4):
        Image.fromarray(np.full((5, 5, 3), 50 * index, np.uint8)).save(tmp_path / f"{index}.png")
    (tmp_path / "1.png").write_bytes(b"no image")
    whole = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)))
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_lossless_files_are_read_to_the_bit(format: str):
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(COLOURS), format), "x"), COLOURS)


def test_exif_orientation_is_honoured():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = decode_image(encoded(Image.fromarray(COLOURS), exif=exif), "x")
    np.testing.assert_array_equal(turned, np.rot90(COLOURS, -1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_all_modes_become_rgb(mode: str):
    image = Image.fromarray(COLOURS).convert(mode)
    format = "TIFF" if mode == "CMYK" else "PNG"
    np.testing.assert_array_equal(decode_image(encoded(image, format), "x"), np.asarray(image.convert("RGB")))


def test_16_bits_become_8():
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(levels)), "x")[..., 0], [[0, 1, 128, 255]])


def test_folders_are_read_in_order_and_recursively(tmp_path: Path):
    for name in ("b.png", "a/z.PNG", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(Image.fromarray(COLOURS)))
    assert [file.name for file in list_images(tmp_path)] == ["z.PNG", "b.png"]


def test_damaged_files_are_named(folder: Path):
    source = FolderSource(folder)
    for index in (1, 2):
        with pytest.raises(UnreadableImageError, match=rf"{index}\.png"):
            source[index]


def test_the_next_readable_image_stands_in(folder: Path, caplog: pytest.LogCaptureFixture):
    source = open_source(folder)
    assert len(source) == 4
    assert [int(source[index][0, 0, 0]) for index in (0, 1, 2, 3, 1)] == [0, 150, 150, 150, 150]
    assert sorted(source.unreadable) == [1, 2]
    assert len(caplog.records) == 2, "each file is named once"


def test_stand_ins_go_round_the_end(tmp_path: Path):
    Image.fromarray(COLOURS).save(tmp_path / "0.png")
    (tmp_path / "1.png").touch()
    np.testing.assert_array_equal(open_source(tmp_path)[1], COLOURS)


def test_nothing_readable_is_an_error(tmp_path: Path):
    (tmp_path / "0.png").touch()
    with pytest.raises(UnreadableImageError, match=r"none of the 1 images.*0\.png"):
        ReadableSource(FolderSource(tmp_path))[0]


def test_missing_and_empty_folders_are_errors(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        open_source(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="no images below"):
        open_source(tmp_path)
