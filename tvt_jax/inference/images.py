"""Reading and writing pictures: every kind people have, as uint8 arrays, with nothing lost on the way that matters."""

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from tvt_jax.files import whole_file

READABLE = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*")
_BITS_PER_SAMPLE, _ORIENTATION, _ICC_PROFILE = 258, 274, 34675


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Pixels with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels, upright, and the ICC profile they are in."""

    pixels: UInt8[np.ndarray, "h w c"]
    icc_profile: bytes | None = None


def read_picture(path: Path) -> Picture:
    """Read the picture (of an animation or of several pages: the first) at `path`, turned upright by its EXIF tag.

    16 bits a channel are rounded to 8. Palettes become RGB, CMYK becomes sRGB (by its profile where it has one).

    Raises:
        FileNotFoundError: it isn't there.
        ValueError: it can't be read.
    """
    data = path.read_bytes()
    try:
        return _decode(data)
    # Decoders raise whatever they like on a broken file: SyntaxError, struct.error, EOFError, cv2.error ...
    except Exception as error:
        raise ValueError(f"{path} can't be read as a picture: {error}") from error


def write_picture(path: Path, picture: Picture) -> None:
    """Write `picture` to `path` in the format of its ending, whole or not at all, over what may be there.

    JPEG has no alpha: the picture is laid over white.

    Raises:
        ValueError: the ending isn't in FORMATS.
    """
    image_format = format_of(path)
    image = Image.fromarray(picture.pixels.squeeze(-1) if picture.pixels.shape[-1] == 1 else picture.pixels)
    if image_format == "JPEG" and "A" in image.mode:
        image = _over_white(image)
    options = SAVE_OPTIONS[image_format] | ({"icc_profile": picture.icc_profile} if picture.icc_profile else {})
    with whole_file(path) as partial:
        image.save(partial, format=image_format, **options)


def format_of(path: Path) -> str:
    """Name (as Pillow does) the format that `path`'s ending asks for, or raise ValueError."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: '{path.suffix}' isn't an ending that can be written, use one of {' '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def check_size(path: Path, height: int, width: int) -> None:
    """Raise ValueError if the format of `path` can't hold a picture of `height` x `width` pixels."""
    longest = LONGEST_SIDE.get(format_of(path))
    if longest and max(height, width) > longest:
        raise ValueError(f"{path}: {width}x{height} is too large for this format (at most {longest}), use .png or .tif")


def resize(
    pixels: UInt8[np.ndarray, "h w *c"], size: tuple[int, int], resample: Image.Resampling
) -> UInt8[np.ndarray, "H W *c"]:
    """Resize grey or RGB `pixels` (Pillow, antialiased) to `size` = (height, width)."""
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], resample))


def to_grey(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Reduce RGB to luma (ITU-R BT.601)."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def spread_color(color: UInt8[np.ndarray, "h w c"], alpha: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w c"]:
    """Give wholly transparent pixels the colour of the nearest visible one.

    What is stored under them is arbitrary (often black) and would bleed into visible edges when enlarged.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return color
    labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    palette = np.zeros((labels.max() + 1, color.shape[-1]), np.uint8)
    palette[labels[~hidden]] = color[~hidden]
    return palette[labels]


def size_of(path: Path) -> tuple[int, int] | None:
    """Height and width of the picture at `path`, upright or not, from its header; None where Pillow can't tell."""
    # Decoders raise whatever they like on a broken file, and reading it whole tells what is wrong.
    with suppress(Exception), Image.open(path) as image:
        return image.height, image.width
    return None


def pixels_of(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    """Give the pixels of an image of any mode, upright: grey, grey and alpha, RGB or RGBA.

    Raises:
        ValueError: it has 32 bits a channel.
    """
    return _from_image(image).pixels


def _decode(data: bytes) -> Picture:
    with _open_deep(data) if _bits(data) == 16 else Image.open(io.BytesIO(data)) as image:
        return _from_image(image)


def _from_image(image: Image.Image) -> Picture:
    icc_profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode == "CMYK":
        image, icc_profile = _cmyk_to_rgb(image, icc_profile), None
    image = _plain(image)
    space = b"GRAY" if image.mode in ("L", "LA") else b"RGB "
    # Bytes 16-20 of an ICC header name the colour space: a profile for another one would make the result unreadable.
    keep = icc_profile is not None and icc_profile[16:20] == space
    pixels = np.asarray(image)
    return Picture(pixels=pixels.reshape(*pixels.shape[:2], -1), icc_profile=icc_profile if keep else None)


def _plain(image: Image.Image) -> Image.Image:
    """To L, LA, RGB or RGBA."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(_to_8_bits(np.asarray(image).astype(np.uint16)))
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a channel have no agreed range: save it with 8 or 16 bits")
    color = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    return image.convert(color + "A" if image.has_transparency_data else color)


def _cmyk_to_rgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    converted = None
    if icc_profile:
        # With a broken profile the plain formula is better than no picture.
        with suppress(ImageCms.PyCMSError, OSError):
            profiles = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    return converted or image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new(image.mode, image.size, "white")
    return Image.alpha_composite(white.convert("RGBA"), image.convert("RGBA")).convert(image.mode.rstrip("A"))


def _bits(data: bytes) -> int:
    """Bits a channel of a PNG or TIFF, 8 for other formats."""
    if data.startswith(_PNG_SIGNATURE):
        return data[24]
    if data.startswith(_TIFF_SIGNATURES):
        return _tiff_tags(data).get(_BITS_PER_SAMPLE, (1,))[0]
    return 8


def _tiff_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    stream = io.BytesIO(data)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _open_deep(data: bytes) -> Image.Image:
    """Open a 16-bit PNG or TIFF with OpenCV: Pillow refuses some of them and cuts the others off instead of rounding.

    OpenCV turns a TIFF upright by itself, a PNG it leaves as it is.
    """
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return Image.open(io.BytesIO(data))
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[-1] == 4 else cv2.COLOR_BGR2RGB)
    image = Image.fromarray(_to_8_bits(pixels))
    if data.startswith(_PNG_SIGNATURE):
        with Image.open(io.BytesIO(data)) as header:
            image.info["icc_profile"] = header.info.get("icc_profile")
            image.getexif()[_ORIENTATION] = header.getexif().get(_ORIENTATION, 1)
    else:
        image.info["icc_profile"] = _tiff_tags(data).get(_ICC_PROFILE)
    return image


def _to_8_bits(pixels: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    # 65535 / 255 = 257 exactly
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
