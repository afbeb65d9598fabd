"""The kinds of files people have, made on the fly: name -> (bytes, shape of the pixels they hold)."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
RGBA = np.dstack([RGB, ALPHA])
DEEP = RNG.integers(0, 65536, (5, 7, 4), dtype=np.uint16)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(pixels: np.ndarray | Image.Image, image_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, format=image_format, **options)
    return stream.getvalue()


def encoded(pixels: np.ndarray, ending: str) -> bytes:
    """By OpenCV, from grey, RGB or RGBA."""
    if pixels.ndim == 3:
        pixels = np.dstack([pixels[..., 2::-1], pixels[..., 3:]])
    return cv2.imencode(ending, np.ascontiguousarray(pixels))[1].tobytes()


def png(pixels: np.ndarray, color_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with any 8- or 16-bit layout, by hand: no library here writes 16-bit grey with alpha."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in body)


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def animation(image_format: str) -> bytes:
    frames = [Image.fromarray(np.full((5, 7, 3), value, np.uint8)) for value in (10, 200)]
    return saved(frames[0], image_format, save_all=True, append_images=frames[1:])


def palette(**options: Any) -> bytes:
    return saved(Image.fromarray(RGB).quantize(8), "PNG", **options)


CMYK = Image.fromarray(RGB).convert("CMYK")

FILES: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "rgb.png": (saved(RGB, "PNG"), (5, 7, 3)),
    "rgba.png": (saved(RGBA, "PNG"), (5, 7, 4)),
    "grey.png": (saved(ALPHA, "PNG"), (5, 7, 1)),
    "grey_alpha.png": (png(np.dstack([ALPHA, ALPHA]), 4), (5, 7, 2)),
    "one_bit.png": (saved(Image.fromarray(ALPHA).convert("1"), "PNG"), (5, 7, 1)),
    "palette.png": (palette(), (5, 7, 3)),
    "palette_transparent.png": (palette(transparency=0), (5, 7, 4)),
    "palette_alpha.png": (palette(transparency=bytes(range(0, 160, 20))), (5, 7, 4)),
    "rgb_key.png": (saved(RGB, "PNG", transparency=tuple(map(int, RGB[0, 0]))), (5, 7, 4)),
    "grey_key.png": (saved(ALPHA, "PNG", transparency=int(ALPHA[0, 0])), (5, 7, 2)),
    "interlaced_name.jpeg.png": (saved(RGB, "PNG"), (5, 7, 3)),
    "grey16.png": (encoded(DEEP[..., 0], ".png"), (5, 7, 1)),
    "grey_alpha16.png": (png(DEEP[..., :2], 4), (5, 7, 2)),
    "rgb16.png": (encoded(DEEP[..., :3], ".png"), (5, 7, 3)),
    "rgba16.png": (encoded(DEEP, ".png"), (5, 7, 4)),
    "rgb16_key.png": (png(DEEP[..., :3], 2, (b"tRNS", DEEP[0, 0, :3].astype(">u2").tobytes())), (5, 7, 4)),
    "grey16_key.png": (png(DEEP[..., :1], 0, (b"tRNS", DEEP[0, 0, :1].astype(">u2").tobytes())), (5, 7, 2)),
    "animated.png": (animation("PNG"), (5, 7, 3)),
    "pixel.png": (saved(RGB[:1, :1], "PNG"), (1, 1, 3)),
    "row.png": (saved(RGB[:1], "PNG"), (1, 7, 3)),
    "column.png": (saved(RGB[:, :1], "PNG"), (5, 1, 3)),
    "clear.png": (saved(np.dstack([RGB, 0 * ALPHA]), "PNG"), (5, 7, 4)),
    "profile.png": (saved(RGB, "PNG", icc_profile=SRGB), (5, 7, 3)),
    "broken_profile.png": (saved(RGB, "PNG", icc_profile=b"no profile"), (5, 7, 3)),
    "turned.png": (saved(RGB, "PNG", exif=with_orientation(6)), (7, 5, 3)),
    "rgb.jpg": (saved(RGB, "JPEG"), (5, 7, 3)),
    "progressive.jpeg": (saved(RGB, "JPEG", progressive=True), (5, 7, 3)),
    "grey.JPG": (saved(ALPHA, "JPEG"), (5, 7, 1)),
    "cmyk.jpg": (saved(CMYK, "JPEG"), (5, 7, 3)),
    "turned.jpg": (saved(RGB, "JPEG", exif=with_orientation(8)), (7, 5, 3)),
    "upright.jpg": (saved(RGB, "JPEG", exif=with_orientation(3)), (5, 7, 3)),
    "really_a_png.jpg": (saved(RGB, "PNG"), (5, 7, 3)),
    "rgb.webp": (saved(RGB, "WEBP"), (5, 7, 3)),
    "lossless.webp": (saved(RGBA, "WEBP", lossless=True), (5, 7, 4)),
    "animated.webp": (animation("WEBP"), (5, 7, 3)),
    "rgb.tif": (saved(RGB, "TIFF"), (5, 7, 3)),
    "rgba.tiff": (saved(RGBA, "TIFF"), (5, 7, 4)),
    "cmyk.tif": (saved(CMYK, "TIFF"), (5, 7, 3)),
    "lzw.tif": (saved(RGB, "TIFF", compression="tiff_lzw"), (5, 7, 3)),
    "one_bit.tif": (saved(Image.fromarray(ALPHA).convert("1"), "TIFF", compression="group4"), (5, 7, 1)),
    "pages.tif": (animation("TIFF"), (5, 7, 3)),
    "turned.tif": (saved(RGB, "TIFF", exif=with_orientation(6)), (7, 5, 3)),
    "grey16.tif": (encoded(DEEP[..., 0], ".tif"), (5, 7, 1)),
    "rgb16.tif": (encoded(DEEP[..., :3], ".tif"), (5, 7, 3)),
    "rgba16.tif": (encoded(DEEP, ".tif"), (5, 7, 4)),
    "ycbcr.tif": (saved(Image.fromarray(RGB).convert("YCbCr"), "TIFF"), (5, 7, 3)),
    "image.bmp": (saved(RGB, "BMP"), (5, 7, 3)),
    "still.gif": (saved(RGB, "GIF"), (5, 7, 3)),
    "moving.gif": (animation("GIF"), (5, 7, 3)),
    "name with späces & signs #1.png": (saved(RGB, "PNG"), (5, 7, 3)),
}

BROKEN = {
    "empty.png": b"",
    "text.jpg": b"this is no picture",
    "cut.png": saved(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), "PNG")[:3000],
    "cut.jpg": saved(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")[:2000],
    "cut.tif": encoded(RNG.integers(0, 65536, (64, 64, 3), dtype=np.uint16), ".tif")[:3000],
    "cut16.png": encoded(RNG.integers(0, 65536, (64, 64, 3), dtype=np.uint16), ".png")[:20],
    "float.tif": saved(Image.fromarray(RNG.random((5, 7), dtype=np.float32)), "TIFF"),
}
