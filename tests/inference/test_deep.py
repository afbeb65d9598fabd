"""16 bits in, 16 bits out: each kind against its pixels, and against its twin of 8 bits."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.inference.weird import DEEP, encoded, png
from tvt_jax.inference import Upscaler
from tvt_jax.inference.batch import upscale_file
from tvt_jax.inference.channels import to_8_bits
from tvt_jax.inference.images import Picture, read_picture
from tvt_jax.inference.writing import write_picture

RGB, GREY, ALPHA = DEEP[..., :3], DEEP[..., 0], DEEP[..., 3:]


def tiff(pixels: np.ndarray, photometric: str = "rgb", **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric=photometric, **options)
    return stream.getvalue()


def associated(alpha: str) -> bytes:
    """RGB times alpha, rounded."""
    times = np.rint(RGB.astype(np.float64) * ALPHA / 65535).astype(np.uint16)
    return tiff(np.dstack([times, ALPHA]), extrasamples=[alpha])


def twelve_bits() -> bytes:
    return tiff(GREY >> 4, "minisblack", bitspersample=12)


KINDS = {
    "rgb.png": (encoded(RGB, ".png"), RGB),
    "rgba.png": (encoded(DEEP, ".png"), DEEP),
    "grey.png": (encoded(GREY, ".png"), GREY[..., None]),
    "grey_alpha.png": (png(DEEP[..., :2], 4), DEEP[..., :2]),
    "rgb.tif": (tiff(RGB), RGB),
    "big_endian.tif": (tiff(RGB, byteorder=">"), RGB),
    "bigtiff.tif": (tiff(RGB, bigtiff=True), RGB),
    "lzw.tif": (encoded(RGB, ".tif"), RGB),
    "tiles.tif": (tiff(RGB, tile=(16, 16), compression="zlib", predictor=True), RGB),
    "planar.tif": (tiff(RGB.transpose(2, 0, 1), planarconfig="separate"), RGB),
    "planar_alpha.tif": (tiff(DEEP.transpose(2, 0, 1), planarconfig="separate", extrasamples=["unassalpha"]), DEEP),
    "planar_tiles.tif": (tiff(RGB.transpose(2, 0, 1), planarconfig="separate", tile=(16, 16)), RGB),
    "unassociated.tif": (tiff(DEEP, extrasamples=["unassalpha"]), DEEP),
    "unspecified.tif": (tiff(DEEP, extrasamples=["unspecified"]), RGB),
    "grey.tif": (tiff(GREY, "minisblack"), GREY[..., None]),
    "grey_alpha.tif": (
        tiff(DEEP[..., :2], "minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
        DEEP[..., :2],
    ),
    "white_is_zero.tif": (tiff(GREY, "miniswhite"), 65535 - GREY[..., None]),
    "white_is_zero_alpha.tif": (
        tiff(np.dstack([65535 - GREY, ALPHA]), "miniswhite", planarconfig="contig", extrasamples=["unassalpha"]),
        np.dstack([GREY, ALPHA]),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_keeps_all_its_bits(tmp_path, name):
    data, pixels = KINDS[name]
    (tmp_path / name).write_bytes(data)
    np.testing.assert_array_equal(read_picture(tmp_path / name).pixels, pixels)


def test_colors_times_alpha_are_divided(tmp_path):
    (tmp_path / "a.tif").write_bytes(associated("assocalpha"))
    pixels = read_picture(tmp_path / "a.tif").pixels
    np.testing.assert_array_equal(pixels[..., 3:], ALPHA)
    # Rounding before the division counts as much as alpha is small.
    allowed = 0.5 * 65535 / np.maximum(ALPHA, 1) + 1
    assert (np.abs(pixels[..., :3].astype(np.float64) - RGB) <= allowed).all()


def test_a_transparent_color_of_16_bits_is_kept(tmp_path):
    key = (b"tRNS", DEEP[0, 0, :1].astype(">u2").tobytes())
    (tmp_path / "a.png").write_bytes(png(DEEP[..., :1], 0, key))
    pixels = read_picture(tmp_path / "a.png").pixels
    np.testing.assert_array_equal(pixels[..., 1], np.where(GREY[0, 0] == GREY, 0, 65535))


def test_12_bits_fill_the_range(tmp_path):
    (tmp_path / "a.tif").write_bytes(twelve_bits())
    pixels = read_picture(tmp_path / "a.tif").pixels[..., 0]
    assert np.abs(pixels - (GREY >> 4) / 4095 * 65535).max() < 1


@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.float16, np.float32])
def test_numbers_without_a_range_are_refused(tmp_path, dtype):
    (tmp_path / "a.tif").write_bytes(tiff(np.ones((5, 7), dtype), "minisblack"))
    with pytest.raises(ValueError, match=r"a.tif can't be read as a picture: a TIFF of \d\d bits .* no agreed range"):
        read_picture(tmp_path / "a.tif")


def test_a_deep_tiff_that_lacks_pixels_is_an_error(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(RGB)[:-20])
    with pytest.raises(ValueError, match="ends before all pixels are there"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), (">", False), ("<", True)])
def test_tiffs_are_turned_upright_and_tell(tmp_path, bigtiff, byteorder):
    data = tiff(
        RGB, bigtiff=bigtiff, byteorder=byteorder, extratags=[(274, "H", 1, 6, True), (315, "s", 0, "Me", True)]
    )
    (tmp_path / "a.tif").write_bytes(data)
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
    assert picture.metadata.tags == {305: "tifffile.py", 315: "Me"}


def test_a_big_endian_bigtiff_is_read_without_what_it_tells(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(RGB, bigtiff=True, byteorder=">"))
    with pytest.warns(UserWarning, match="a.tif: what it tells beside its pixels can't be read"):
        np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").pixels, RGB)


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize("pixels", [DEEP[..., :n] for n in (1, 2, 3, 4)], ids=["L", "LA", "RGB", "RGBA"])
def test_lossless_formats_return_what_was_written(tmp_path, ending, pixels):
    write_picture(tmp_path / f"a{ending}", Picture(pixels=pixels))
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{ending}").pixels, pixels)


def test_8_bit_formats_round(tmp_path):
    wide = np.full((16, 16, 3), 0x80FF, np.uint16)
    for name in ("a.jpg", "a.webp", "a.avif"):
        write_picture(tmp_path / name, Picture(pixels=wide))
        assert np.abs(read_picture(tmp_path / name).pixels.astype(int) - 0x81).max() <= 2


def waves(channels: int) -> np.ndarray:
    y, x = np.mgrid[:12, :10]
    bands = [np.sin(0.3 * y + c) * np.cos(0.2 * x - c) for c in range(channels)]
    return np.rint(32767.5 + 30000 * np.dstack(bands)).astype(np.uint16)


@pytest.mark.parametrize("fix", ["adain", "wavelet"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_upscaled_as_8_are(folder, channels, fix):
    upscaler, deep = Upscaler(folder, color_fix=fix), waves(channels)
    result = upscaler.upscale(deep)
    assert result.dtype == np.uint16 and len(np.unique(result)) > 256
    twin = upscaler.upscale(((deep.astype(np.uint32) + 128) // 257).astype(np.uint8))
    assert np.abs(to_8_bits(result).astype(int) - twin).max() <= 1


def test_a_deep_file_becomes_a_deep_file(tmp_path, upscaler):
    for name in ("a.png", "a.tif"):
        write_picture(tmp_path / name, Picture(pixels=waves(3)))
        upscale_file(upscaler, tmp_path / name, tmp_path / "out" / name, 2)
        result = read_picture(tmp_path / "out" / name).pixels
        np.testing.assert_array_equal(result, upscaler.upscale(waves(3), 2))


def test_scales_keep_the_depth(upscaler):
    for scale in (1, 2.5, 4):
        assert upscaler.upscale(waves(4), scale).dtype == np.uint16


def test_pil_images_of_16_bits_stay_so(upscaler):
    grey = waves(1)[..., 0]
    np.testing.assert_array_equal(upscaler.upscale(Image.fromarray(grey))[..., 0], upscaler.upscale(grey))


ALPHA_KIND = {"extrasamples": ["unassalpha"]}
TWINS = {
    "rgb": lambda a: tiff(a[..., :3]),
    "planar": lambda a: tiff(np.ascontiguousarray(a[..., :3].transpose(2, 0, 1)), planarconfig="separate"),
    "planar_alpha": lambda a: tiff(np.ascontiguousarray(a.transpose(2, 0, 1)), planarconfig="separate", **ALPHA_KIND),
    "tiles": lambda a: tiff(np.ascontiguousarray(a[..., :3]), tile=(16, 16), compression="lzw", predictor=True),
    "grey": lambda a: tiff(a[..., 0], "minisblack"),
    "grey_alpha": lambda a: tiff(a[..., :2], "minisblack", planarconfig="contig", **ALPHA_KIND),
    "white_is_zero": lambda a: tiff(a[..., 0], "miniswhite"),
    "white_is_zero_alpha": lambda a: tiff(a[..., :2], "miniswhite", planarconfig="contig", **ALPHA_KIND),
    "unspecified": lambda a: tiff(a, extrasamples=["unspecified"]),
    "grey_unspecified": lambda a: tiff(a[..., :2], "minisblack", planarconfig="contig", extrasamples=["unspecified"]),
    "associated": lambda a: tiff(premultiplied(a), extrasamples=["assocalpha"]),
    "grey_associated": lambda a: tiff(
        premultiplied(a[..., [0, 3]]), "minisblack", planarconfig="contig", extrasamples=["assocalpha"]
    ),
    "two_extra": lambda a: tiff(np.dstack([a, a[..., :1]]), extrasamples=["unassalpha", "unspecified"]),
    "big_endian": lambda a: tiff(a[..., :3], byteorder=">"),
    "zstd": lambda a: tiff(a[..., :3], compression="zstd"),
}


def premultiplied(pixels: np.ndarray) -> np.ndarray:
    top = np.iinfo(pixels.dtype).max
    color = np.rint(pixels[..., :-1].astype(np.float64) * pixels[..., -1:] / top)
    return np.dstack([color.astype(pixels.dtype), pixels[..., -1:]])


@pytest.mark.parametrize("name", TWINS)
def test_8_bits_are_read_like_16(tmp_path, name):
    deep = DEEP.copy()
    deep[..., 3] |= 0xC000  # under a faint alpha, 8 bits keep no colour
    shallow = to_8_bits(deep)
    results = []
    for pixels in (deep, shallow):
        (tmp_path / "a.tif").write_bytes(TWINS[name](pixels))
        results.append(read_picture(tmp_path / "a.tif").pixels)
    assert results[0].dtype == np.uint16 and results[1].dtype == np.uint8
    assert results[0].shape == results[1].shape
    assert np.abs(to_8_bits(results[0]).astype(int) - results[1]).max() <= 1
