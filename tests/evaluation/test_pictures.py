"""Pictures as they are compared: alpha, 16 bits, and borders."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from tvt_jax.evaluation.pictures import compare_files, crop_border, read_exact, read_rgb


@pytest.fixture
def deep():
    return np.random.default_rng(0).integers(0, 65536, (6, 5, 3), np.uint16)


@pytest.mark.parametrize("ending", ["png", "tif", "ppm"])
def test_16_bits_stay(tmp_path, deep, ending):
    file = tmp_path / f"a.{ending}"
    cv2.imwrite(str(file), deep[..., ::-1])
    assert np.array_equal(read_exact(file), deep)
    assert np.abs(read_rgb(file).astype(int) - np.rint(deep / 257)).max() <= 1


def test_16_bits_of_grey_are_repeated_and_alpha_is_laid_over_white(tmp_path, deep):
    grey, alpha = tmp_path / "grey.png", tmp_path / "alpha.png"
    cv2.imwrite(str(grey), deep[..., 0])
    assert np.array_equal(read_exact(grey), np.repeat(deep[..., :1], 3, axis=-1))
    opacity = np.full((6, 5, 1), 65535, np.uint16)
    opacity[0] = 0
    cv2.imwrite(str(alpha), np.dstack([deep[..., ::-1], opacity]))
    assert (read_exact(alpha)[0] == 65535).all() and np.array_equal(read_exact(alpha)[1:], deep[1:])


def test_8_bits_stay_8(tmp_path):
    Image.new("RGB", (4, 3), (1, 2, 3)).save(tmp_path / "a.png")
    pixels = read_exact(tmp_path / "a.png")
    assert pixels.dtype == np.uint8 and (pixels == (1, 2, 3)).all()


@pytest.mark.parametrize(("mode", "pixel", "shown"), [("RGBA", (9, 8, 7, 0), 255), ("LA", (9, 0), 255), ("L", 9, 9)])
def test_what_is_transparent_is_white(tmp_path, mode, pixel, shown):
    Image.new(mode, (2, 2), pixel).save(tmp_path / "a.png")
    assert (read_rgb(tmp_path / "a.png") == shown).all() and read_rgb(tmp_path / "a.png").shape == (2, 2, 3)


def test_half_transparent_is_half_white(tmp_path):
    Image.new("RGBA", (1, 1), (0, 100, 200, 128)).save(tmp_path / "a.png")
    # Pillow's composition rounds in its own way.
    assert read_rgb(tmp_path / "a.png")[0, 0] == pytest.approx([127, 177, 227], abs=1)


def test_borders_are_cut_off_at_every_side():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert np.array_equal(crop_border(image, 2), image[2:3, 2:5]) and crop_border(image, 0) is not image[:0]
    with pytest.raises(ValueError, match="nothing is left of 7x5 pixels without a border of 3"):
        crop_border(image, 3)


def test_transparency_of_one_and_other_colours_are_told(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = profile.replace(b"sRGB", b"wide").replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))
    kinds = {"plain": {}, "srgb": {"icc_profile": profile}, "wide": {"icc_profile": wide}}
    for name, options in kinds.items():
        Image.new("RGB", (2, 2)).save(tmp_path / f"{name}.png", **options)
    for name, alpha in (("opaque", 255), ("clear", 9)):
        Image.new("RGBA", (2, 2), (0, 0, 0, alpha)).save(tmp_path / f"{name}.png")

    def told(*names):
        return compare_files(*(tmp_path / f"{name}.png" for name in names))

    assert told("plain", "srgb") == told("plain", "opaque") == told("clear", "clear") == told("wide", "wide") == []
    assert told("plain", "clear") == ["the truth alone is transparent, and laid over white"]
    (differ,) = told("wide", "plain")
    assert differ.startswith("the colour profiles differ (wide") and " and sRGB)" in differ


@pytest.mark.parametrize("ending", ["gif", "tif", "webp"])
def test_files_of_several_pictures_are_told(tmp_path, ending):
    first, *more = (Image.new("RGB", (4, 4), (40 * i, 0, 0)) for i in range(3))
    first.save(tmp_path / f"several.{ending}", save_all=True, append_images=more)
    first.save(tmp_path / "one.png")
    (told,) = compare_files(tmp_path / f"several.{ending}", tmp_path / "one.png")
    assert told == f"{tmp_path / f'several.{ending}'} holds 3 pictures, and the first is compared"
