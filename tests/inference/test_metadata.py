"""What a file tells beside its pixels goes from every format to every other."""

import io
import os

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from tests.inference.weird import DEEP, RGB, SRGB
from tvt_jax.inference.batch import How, upscale_file
from tvt_jax.inference.images import Picture, read_mark, read_picture
from tvt_jax.inference.metadata import Metadata
from tvt_jax.inference.writing import write_picture

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6" dc:title="a"/></x:xmpmeta>'
ENDINGS = [".png", ".jpg", ".webp", ".tif", ".avif"]
CAMERA = {36867: "2020:01:02 03:04:05", 33434: IFDRational(1, 125), 37500: b"maker's own", 40962: 7, 42036: "Lens 50"}
PLACE = {1: "N", 2: (IFDRational(51), IFDRational(28), IFDRational(3, 2)), 29: "2020:01:02"}


def exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.DateTime], exif[ExifTags.Base.Orientation] = "Maker", "2021:01:01", 6
    exif[ExifTags.Base.Artist] = "Jürgen".encode()
    exif[ExifTags.IFD.Exif], exif[ExifTags.IFD.GPSInfo] = CAMERA, PLACE
    return exif


def photo(path, ending):
    """A file that tells everything, written by Pillow."""
    told = exif()
    if ending == ".avif":
        del told[274]  # with it, Pillow writes all anew, in ASCII
    if ending == ".tif":
        told[700] = XMP
    options = {"exif": told.tobytes(), "icc_profile": SRGB, "dpi": (300, 300)}
    if ending == ".png":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif ending != ".tif":
        options["xmp"] = XMP
    Image.fromarray(RGB).save(path / f"in{ending}", **options)
    os.utime(path / f"in{ending}", (1_500_000_000, 1_600_000_000))
    return path / f"in{ending}"


def check(path, resolution=True, artist="Jürgen"):
    """Independently of the reader: by Pillow, of 16-bit TIFF by tifffile."""
    with Image.open(path) as image:
        told, info = image.getexif(), image.info
        assert told.get(274, 1) == 1
        assert told[ExifTags.Base.Make] == "Maker"
        assert told[ExifTags.Base.DateTime] == "2021:01:01"
        assert told[ExifTags.Base.Artist].encode("latin-1").decode() == artist
        camera, place = told.get_ifd(ExifTags.IFD.Exif), told.get_ifd(ExifTags.IFD.GPSInfo)
        assert {tag: camera.get(tag) for tag in (36867, 33434, 37500, 40962, 42036)} == CAMERA | {40962: None}
        assert {tag: place[tag] for tag in PLACE} == PLACE
        assert info["icc_profile"] == SRGB
        xmp = info["xmp"] if isinstance(info["xmp"], bytes) else info["xmp"].encode()
        # Of a TIFF, which Pillow turns itself, it takes the orientation away.
        assert xmp in (XMP.replace(b'"6"', b'"1"'), XMP.replace(b'tiff:Orientation="6"', b""))
        if resolution:
            assert told[282] == told[283] == pytest.approx(300, abs=0.1)
            assert "dpi" not in info or info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("source", ENDINGS)
def test_every_format_keeps_it_in_every_other(tmp_path, source):
    picture = read_picture(photo(tmp_path, source))
    # Pillow gives no resolution for WebP and AVIF, and their EXIF had none here.
    for target in ENDINGS:
        write_picture(tmp_path / f"out{target}", picture)
        # Nor does it write other than ASCII to TIFF, in which the camera's bytes would be kept.
        artist = "J??rgen" if source == ".tif" else "Jürgen"
        check(tmp_path / f"out{target}", source not in (".webp", ".avif"), artist)


@pytest.mark.parametrize("target", [".png", ".tif"])
def test_16_bits_keep_it(tmp_path, target):
    picture = read_picture(photo(tmp_path, ".jpg"))
    write_picture(tmp_path / f"out{target}", Picture(pixels=DEEP[..., :3], icc_profile=SRGB, metadata=picture.metadata))
    again = read_picture(tmp_path / f"out{target}")
    assert again.pixels.dtype == np.uint16
    # What has 16 bits and is read is told as well.
    write_picture(tmp_path / "out.jpg", again)
    check(tmp_path / "out.jpg")
    if target == ".tif":
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            assert file.pages.first.tags[34665].value["DateTimeOriginal"] == CAMERA[36867]


@pytest.mark.parametrize("ending", ENDINGS)
def test_times_are_kept_and_all_can_be_stripped(tmp_path, enlarger, ending):
    source = photo(tmp_path, ending)
    upscale_file(enlarger, source, tmp_path / f"kept{ending}", 1)
    assert os.stat(tmp_path / f"kept{ending}").st_mtime == 1_600_000_000
    bare = tmp_path / f"bare{ending}"
    upscale_file(enlarger, source, bare, 1, How(strip_metadata=True))
    assert os.stat(bare).st_mtime > 1_700_000_000
    picture = read_picture(bare)
    assert picture.metadata == Metadata()
    # What the colours are is not told of the picture, it is the picture.
    assert picture.icc_profile == SRGB
    assert b"Maker" not in bare.read_bytes() and b"xmpmeta" not in bare.read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("pixels", [RGB, DEEP[..., :3]], ids=["8", "16"])
def test_a_mark_is_read_again(tmp_path, ending, pixels):
    assert read_mark(tmp_path / "none.png") is None
    write_picture(tmp_path / f"a{ending}", Picture(pixels=pixels, metadata=Metadata().marked("tvt a=b")))
    assert read_mark(tmp_path / f"a{ending}") == "tvt a=b"


def test_what_jpeg_cannot_hold_is_left_out_with_a_warning(tmp_path):
    large = Metadata(tags={271: "Maker", 34665: {37500: b"x" * 70_000}}, xmp=b"<x/>" * 20_000).marked("tvt a=b")
    with pytest.warns(UserWarning, match="too long for JPEG") as found:
        write_picture(tmp_path / "a.jpg", Picture(pixels=RGB, metadata=large))
    assert len(found) == 2 and read_mark(tmp_path / "a.jpg") == "tvt a=b"


def test_damaged_exif_is_left_out_with_a_warning(tmp_path):
    stream = io.BytesIO()
    damaged = exif().tobytes()
    Image.fromarray(RGB).save(stream, "JPEG", exif=damaged[:60] + b"\xff" * (len(damaged) - 60))
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    with pytest.warns(UserWarning, match=r"a.jpg: "):
        np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg").pixels.shape[2], 3)


def test_a_description_of_another_size_is_left_out(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., :3], photometric="rgb")
    assert b"shape" in (tmp_path / "a.tif").read_bytes()
    assert 270 not in read_picture(tmp_path / "a.tif").metadata.tags
