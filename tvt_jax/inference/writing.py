"""Writing pictures: lossless formats with all their bits, and what else a file told."""

import io
import os
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from tvt_jax.files import whole_file
from tvt_jax.inference import png
from tvt_jax.inference.channels import to_8_bits
from tvt_jax.inference.images import Picture
from tvt_jax.inference.metadata import (
    ICC_PROFILE,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    XMP,
    Y_RESOLUTION,
    Metadata,
    subdirectories,
)

ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
FORMATS = {ending: name for name, endings in ENDINGS.items() for ending in endings}
DEEP = ("PNG", "TIFF")
LOSSY = ("JPEG", "WEBP", "AVIF")
QUALITY = 95
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "AVIF": 16384}
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"subsampling": 0},
    "WEBP": {"method": 4},
    "AVIF": {"subsampling": "4:4:4"},
}
Stream = io.BytesIO | io.BufferedRandom
# A JPEG's segment holds so much, its own name included.
_LONGEST_SEGMENT = 65533
_LONGEST_XMP = 65504
# tifffile writes no tags that lead to other directories: neighbours hold their place.
_STAND_IN = -1
_LONG = 4
# Classic TIFF ends at 4 GB, less what tifffile keeps for directories.
_LONGEST_TIFF = 2**32 - 2**25


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


def write_picture(path: Path, picture: Picture, quality: int = QUALITY, times: tuple[int, int] | None = None) -> None:
    """Write `picture` to `path` in the format of its ending, whole or not at all, over what may be there.

    Args:
        path: of the file.
        picture: 16 bits a channel stay so in PNG and TIFF; JPEG has no alpha, so the picture is laid over white.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        times: when the file is to have been read and changed, in nanoseconds since 1970; None is now.

    Raises:
        ValueError: the ending isn't in FORMATS.
    """
    image_format = format_of(path)
    with whole_file(path) as partial:
        with partial.open("w+b") as stream:
            encode_picture(stream, picture, image_format, quality)
        if times is not None:
            os.utime(partial, ns=times)


def encode_picture(stream: Stream, picture: Picture, image_format: str, quality: int = QUALITY) -> None:
    """Write `picture` in a format to a stream that can be read and sought in; see `write_picture`."""
    pixels = picture.pixels if image_format in DEEP else to_8_bits(picture.pixels)
    if image_format == "TIFF":
        _write_tiff(stream, pixels, picture.icc_profile, picture.metadata)
        return
    options = _options(picture, image_format, quality)
    if pixels.dtype == np.uint8:
        _to_image(pixels, image_format).save(stream, format=image_format, **options)
        return
    # Pillow writes no 16-bit RGB, but what is told beside the pixels.
    told = io.BytesIO()
    Image.new("L" if pixels.shape[-1] < 3 else "RGB", (1, 1)).save(told, format="PNG", **options)
    stream.write(png.with_chunks_of(bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels))), told.getvalue()))


def _to_image(pixels: np.ndarray, image_format: str) -> Image.Image:
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    return _over_white(image) if image_format == "JPEG" and "A" in image.mode else image


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new(image.mode, image.size, "white")
    return Image.alpha_composite(white.convert("RGBA"), image.convert("RGBA")).convert(image.mode.rstrip("A"))


def _options(picture: Picture, image_format: str, quality: int) -> dict[str, Any]:
    """Give what Pillow's save takes."""
    metadata, options = picture.metadata, dict(_OPTIONS[image_format])
    if image_format == "JPEG":
        metadata = _for_jpeg(metadata)
    if image_format in LOSSY:
        options["quality"] = quality
    if image_format == "PNG":
        options["pnginfo"] = _png_info(metadata)
    elif metadata.xmp:
        options["xmp"] = metadata.xmp
    # Given the orientation, Pillow's AVIF would write all EXIF anew, in ASCII.
    told: dict[str, Any] = {"icc_profile": picture.icc_profile, "exif": metadata.exif(image_format != "AVIF")}
    if image_format in ("PNG", "JPEG"):
        told["dpi"] = metadata.dpi
    return options | {name: value for name, value in told.items() if value}


def _png_info(metadata: Metadata) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", "replace"))
    return info


def _for_jpeg(metadata: Metadata) -> Metadata:
    """Leave out what JPEG can't hold."""
    if len(metadata.exif()) > _LONGEST_SEGMENT:
        warnings.warn("the EXIF data is too long for JPEG and left out", stacklevel=2)
        metadata = metadata.mark_alone()
    if metadata.xmp and len(metadata.xmp) > _LONGEST_XMP:
        warnings.warn("the XMP data is too long for JPEG and left out", stacklevel=2)
        metadata = metadata.without_xmp()
    return metadata


def _write_tiff(stream: Stream, pixels: np.ndarray, icc_profile: bytes | None, metadata: Metadata) -> None:
    channels, tags = pixels.shape[-1], metadata.directory()
    inner = subdirectories(tags) if pixels.nbytes < _LONGEST_TIFF else {}
    with tifffile.TiffWriter(stream, byteorder="<", bigtiff=pixels.nbytes >= _LONGEST_TIFF) as file:
        file.write(
            pixels.squeeze(-1) if channels == 1 else pixels,
            photometric="rgb" if channels > 2 else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            extrasamples=["unassalpha"] if channels in (2, 4) else None,
            compression="adobe_deflate",
            predictor=True,
            software=False,
            metadata=None,
            resolution=metadata.dpi,
            resolutionunit="inch" if metadata.dpi else None,
            iccprofile=icc_profile,
            extratags=[*_extra_tags(tags, metadata.xmp), *((tag + _STAND_IN, "I", 1, 0, True) for tag in inner)],
        )
    _append(stream, inner)


def _extra_tags(tags: dict[int, Any], xmp: bytes | None) -> Iterable[tuple]:
    """Give what tifffile is to write in the first directory."""
    own = (X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, ICC_PROFILE)
    for tag, value in tags.items():
        if isinstance(value, str | bytes) and tag not in range(40091, 40096):
            yield tag, "s", 0, value, True
        elif isinstance(value, bytes):
            yield tag, "B", len(value), value, True
        elif isinstance(value, int) and tag not in own:
            yield tag, "H" if value < 2**16 else "I", 1, value, True
    if xmp:
        yield XMP, "B", len(xmp), xmp, True


def _append(stream: Stream, directories: dict[int, Any]) -> None:
    """Put directories at the end of a TIFF, and where they are in the first one."""
    for tag, directory in directories.items():
        start = stream.seek(0, io.SEEK_END)
        stream.write(b"\0" * (start % 2) + directory.tobytes(start + start % 2))
        stream.seek(0)
        with tifffile.TiffFile(stream) as file:
            entry = file.pages.first.tags[tag + _STAND_IN].offset
        stream.seek(entry)
        stream.write(struct.pack("<HHII", tag, _LONG, 1, start + start % 2))
