"""Folders as people have them: every file is read as what it is, skipped and named once, or none of the images."""

import errno
import io
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.data.pipeline import DataConfig, make_iterator
from tvt_jax.data.prepare import PrepareConfig, prepare
from tvt_jax.data.sources import Source, open_source

# Large images are kept small by lowering what Pillow calls large.
LARGE = 60_000

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 4, 3), np.uint8)
GREY = RNG.integers(0, 256, (6, 4), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 4), np.uint16)
CMYK = np.full((16, 16, 4), (200, 30, 90, 40), np.uint8)
FLAT = np.full((16, 16, 3), (200, 30, 90), np.uint8)
PALETTE = np.array([[255, 0, 0], [1, 2, 3], [9, 200, 77]], np.uint8)
INDICES = RNG.integers(0, 3, (6, 4), np.uint8)
WIDE = RNG.integers(0, 256, (2, 30_000, 3), np.uint8)


def grey(levels: np.ndarray) -> np.ndarray:
    return levels[..., None].repeat(3, axis=-1)


def encoded(pixels: np.ndarray | Image.Image, image_format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, format=image_format, **options)
    return stream.getvalue()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def animation(image_format: str, **options) -> bytes:
    return encoded(FLAT, image_format, save_all=True, append_images=[Image.fromarray(255 - FLAT)], **options)


def palette(**options) -> bytes:
    image = Image.fromarray(INDICES)
    image.putpalette(PALETTE.tobytes())
    return encoded(image, **options)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    return encoded(RGB, exif=exif)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def folder_of(name: str, content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        (path / name).write_bytes(content)

    return make


@dataclass(frozen=True)
class Kind:
    """A file: its name, its bytes or how to make it, and the pixels it holds, or why there are none (None: no image).

    `atol` is for what JPEG and GIF lose of a flat colour: the rounding of a transform, or of CMYK.
    """

    name: str
    make: bytes | Callable[[Path], None]
    expected: np.ndarray | str | None
    atol: int = 0

    def write(self, folder: Path) -> None:
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.make, bytes):
            path.write_bytes(self.make)
        else:
            self.make(path)


NOISE = RNG.integers(0, 256, (64, 64, 3), np.uint8)
KINDS = {
    "cut-off JPEG": Kind("a.jpg", cut(encoded(NOISE, "JPEG")), "truncated"),
    "cut-off PNG": Kind("a.png", cut(encoded(NOISE)), "truncated"),
    "cut-off TIFF": Kind("a.tif", cut(encoded(NOISE, "TIFF")), ".+"),
    "cut-off WebP": Kind("a.webp", cut(encoded(NOISE, "WEBP")), ".+"),
    "zero bytes": Kind("a.png", b"", "not an image"),
    "text as JPEG": Kind("a.jpg", b"<html>404 not found</html>", "not an image"),
    "PNG as JPEG": Kind("a.jpg", encoded(RGB), RGB),
    "upper-case ending": Kind("A.PNG", encoded(RGB), RGB),
    "animated GIF as PNG": Kind("a.png", animation("GIF"), FLAT, 4),
    "animated WebP": Kind("a.webp", animation("WEBP", lossless=True), FLAT),
    "animated PNG": Kind("a.png", animation("PNG"), FLAT),
    "pages of TIFF": Kind("a.tif", animation("TIFF"), FLAT),
    "phone's JPEG of two pictures": Kind("a.jpg", animation("MPO", quality=100), FLAT, 4),
    "CMYK JPEG": Kind(
        "a.jpg",
        encoded(Image.fromarray(CMYK, "CMYK"), "JPEG", quality=100),
        ((255 - CMYK[..., :3].astype(int)) * (255 - CMYK[..., 3:].astype(int)) // 255).astype(np.uint8),
        4,
    ),
    "16-bit grey PNG": Kind("a.png", encoded(DEEP), grey(np.rint(DEEP / 257).astype(np.uint8))),
    "16-bit grey TIFF": Kind("a.tif", encoded(DEEP, "TIFF"), grey(np.rint(DEEP / 257).astype(np.uint8))),
    "32-bit TIFF": Kind("a.tif", encoded(DEEP.astype(np.int32), "TIFF"), "no agreed range"),
    "float TIFF": Kind("a.tif", encoded(RNG.random((6, 4), np.float32), "TIFF"), "no agreed range"),
    "1-bit PNG": Kind("a.png", encoded(Image.fromarray(GREY > 99)), grey(np.uint8(255) * (GREY > 99))),
    "grey": Kind("a.png", encoded(GREY), grey(GREY)),
    "grey with alpha": Kind("a.png", encoded(np.dstack([GREY, GREY[::-1]])), grey(GREY)),
    "RGBA": Kind("a.png", encoded(np.dstack([RGB, GREY])), RGB),
    "palette": Kind("a.png", palette(), PALETTE[INDICES]),
    "palette with a transparent colour": Kind("a.png", palette(transparency=1), PALETTE[INDICES]),
    "palette with alpha": Kind("a.png", palette(transparency=bytes([0, 99, 255])), PALETTE[INDICES]),
    "turned by EXIF": Kind("a.png", turned(), np.rot90(RGB, -1)),
    "damaged EXIF": Kind("a.png", encoded(RGB, exif=b"Exif\0\0MM\0*\xff\xff"), RGB),
    "damaged ICC profile": Kind("a.png", encoded(RGB, icc_profile=b"no profile"), RGB),
    "one pixel": Kind("a.png", encoded(RGB[:1, :1]), RGB[:1, :1]),
    "30000x2": Kind("a.png", encoded(WIDE), WIDE),
    "somewhat large": Kind(
        "a.png", encoded(np.zeros((1, LARGE * 3 // 2), np.uint8)), np.zeros((1, LARGE * 3 // 2, 3), np.uint8)
    ),
    "decompression bomb": Kind("a.png", encoded(np.zeros((3, LARGE), np.uint8)), "decompression bomb"),
    "other ending": Kind("a.txt", b"hello", None),
    "GIF": Kind("a.gif", encoded(FLAT, "GIF"), None),
    "Windows' thumbnails": Kind("Thumbs.db", b"\xd0\xcf", None),
    "macOS's shadow of a photo": Kind("._photo.jpg", b"\0\5\26\7", None),
    "hidden folder": Kind(".trash", folder_of("a.png", encoded(RGB)), None),
    "folder with an ending": Kind("a.jpg", folder_of("notes.txt", b""), None),
    "name in Unicode": Kind("späces & 写真 #1.png", encoded(RGB), RGB),
    "name with a line break": Kind("a\nb.png", b"", "not an image"),
    "name that is no text": Kind(os.fsdecode(b"a\xff.png"), encoded(RGB), RGB),
    "named pipe": Kind("a.png", lambda path: os.mkfifo(path), "neither a file"),
    "dangling link": Kind("a.png", lambda path: path.symlink_to("nowhere"), "No such file"),
    "link to itself": Kind("a.png", loop, "symbolic links"),
    "link to the folder above": Kind("up", lambda path: path.symlink_to(".."), None),
}
GOOD = np.full((8, 8, 3), (9, 99, 199), np.uint8)

pytestmark = pytest.mark.filterwarnings(
    "ignore::PIL.Image.DecompressionBombWarning",
    "ignore:Corrupt EXIF data:UserWarning",
)


@pytest.fixture(autouse=True)
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", LARGE)


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages about what was skipped, without how many there were so far."""
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [re.sub(r"^skipped: (.*) \(\d+ unreadable so far\)$", r"\1", message) for message in messages]


def assert_reads(pixels: np.ndarray, kind: Kind) -> None:
    assert pixels.dtype == np.uint8
    # The rounding of a JPEG's or GIF's transform; all else is equal to the bit.
    np.testing.assert_allclose(pixels, kind.expected, rtol=0, atol=kind.atol)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_file_is_read_or_named_or_no_image(kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    kind.write(tmp_path)
    (tmp_path / "zz.png").write_bytes(encoded(GOOD))
    source = open_source(tmp_path)
    assert len(source) == (1 if kind.expected is None else 2)
    first, again = source[0], source[0]
    np.testing.assert_array_equal(first, again)
    if isinstance(kind.expected, np.ndarray):
        assert_reads(first, kind)
        assert not caplog.records
    else:
        np.testing.assert_array_equal(first, GOOD)
        assert named(caplog) == ([] if kind.expected is None else [source.unreadable[0]])
    if isinstance(kind.expected, str):
        (message,) = named(caplog)
        assert message.isprintable() and str(tmp_path) in message
        assert re.search(kind.expected, message)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encoded(GOOD + np.uint8(index)))
    return tmp_path


def levels(source: Source) -> list[int]:
    return [int(source[index][0, 0, 0]) - 9 for index in range(len(source))]


def test_a_file_without_permission_is_named(three: Path, monkeypatch: pytest.MonkeyPatch):
    """Refused by a stand-in, since the superuser may read everything."""
    allowed = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "1.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return allowed(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    source = open_source(three)
    assert levels(source) == [0, 2, 2]
    assert source.unreadable == {1: f"{three}/1.png: Permission denied"}


def test_a_folder_without_permission_is_named(three: Path, monkeypatch: pytest.MonkeyPatch):
    (three / "10").mkdir()
    (three / "10" / "a.png").write_bytes(encoded(GOOD))
    allowed = os.scandir

    def scandir(path: str | Path):
        if os.path.basename(path) == "10":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return allowed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    source = open_source(three)
    assert levels(source) == [0, 1, 2, 2]
    assert source.unreadable == {2: f"{three}/10: neither a file nor a folder that can be looked into"}


def test_a_file_that_vanishes_is_named(three: Path):
    source = open_source(three)
    (three / "1.png").unlink()
    assert levels(source) == [0, 2, 2]
    assert source.unreadable == {1: f"{three}/1.png: No such file or directory"}


def test_a_file_that_is_replaced_is_read_anew(three: Path):
    source = open_source(three)
    assert levels(source) == [0, 1, 2]
    (three / "1.png").write_bytes(encoded(GOOD + np.uint8(5)))
    (three / "2.png").write_bytes(b"half a fi")
    assert levels(source) == [0, 5, 0]
    assert list(source.unreadable) == [2]


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    """All kinds together, each in a folder of its own, among good images."""
    for index, kind in enumerate(KINDS.values()):
        kind.write(tmp_path / "dirty" / f"{index:02}")
        (tmp_path / "dirty" / f"{index:02}.png").write_bytes(encoded(GOOD + np.uint8(index)))
    return tmp_path / "dirty"


def test_batches_are_those_of_the_readable_images(dirty: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """They are the batches of a folder in which every unreadable file has been replaced by its stand-in."""
    source = open_source(dirty)
    (tmp_path / "clean").mkdir()
    for index in range(len(source)):
        (tmp_path / "clean" / f"{index:03}.png").write_bytes(encoded(source[index]))
    caplog.clear()
    ours, expected = (
        make_iterator(DataConfig(path=str(path), crop=16, batch=8), seed=0) for path in (dirty, tmp_path / "clean")
    )
    for batch, wanted in islice(zip(ours, expected, strict=True), 2 * len(source) // 8):
        np.testing.assert_array_equal(batch["hr"], wanted["hr"])
    ours.close()
    expected.close()
    assert len(named(caplog)) == len(set(named(caplog))) == len(source.unreadable) == count(str)


def test_prepare_counts_and_names_them(dirty: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    config = PrepareConfig(images=dirty, out=tmp_path / "tiles", crop=64, stride=64, minimum_detail=0.0)
    manifest = prepare(config)
    unreadable = [message for part in manifest["parts"] for message in part["unreadable"]]
    assert manifest["counts"]["unreadable"] == count(str) == len(set(unreadable))
    assert manifest["counts"]["photos"] == count(np.ndarray) + len(KINDS)
    told = capsys.readouterr().err
    assert told.count("skipped: ") == count(str)
    assert all(f"skipped: {message}\n" in told for message in unreadable)
    assert len(open_source(tmp_path / "tiles")) == manifest["counts"]["tiles"]


def count(what: type) -> int:
    return sum(isinstance(kind.expected, what) for kind in KINDS.values())
