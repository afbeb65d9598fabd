"""Decoding more than 8 bits a channel, which Pillow cuts off: PNG, TIFF and PNM."""

import io
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile
from jaxtyping import UInt16

from tvt_jax.inference import png

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNM_SIGNATURES = (b"P5", b"P6")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}
_ASSOCIATED, _UNASSOCIATED = 1, 2

Deep = UInt16[np.ndarray, "h w c"]


def decode_deep(data: bytes) -> Deep | None:
    """Decode a file of 9 to 16 bits a channel, not turned, and scaled to all 16; None for any other.

    Raises:
        ValueError: it is a TIFF of a kind that has no agreed range, or lacks pixels.
    """
    if data.startswith(png.SIGNATURE) and png.bits_of(data) == 16:
        return _with_channels(imagecodecs.png_decode(png.pixels_alone(data)))
    if data.startswith(TIFF_SIGNATURES):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return _decode_page(file.pages[0], len(data))
    if data.startswith(_PNM_SIGNATURES):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        # OpenCV gives blue first.
        return _with_channels(pixels)[..., ::-1] if pixels is not None and pixels.dtype == np.uint16 else None
    return None


def _decode_page(page: Any, length: int) -> Deep | None:
    bits = np.max(page.bitspersample)
    # Pillow mixes 16-bit inks well enough: CMYK becomes 8-bit sRGB in any case.
    if (bits <= 8 and page.sampleformat == 1) or page.photometric == _CMYK:
        return None
    if page.dtype != np.uint16 or page.photometric not in _COLORS or page.imagedepth > 1:
        raise ValueError(f"{_kind(page)} has no agreed range: save it with 8 or 16 bits a channel, grey or RGB")
    if max(start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)) > length:
        raise ValueError("it ends before all pixels are there")
    pixels = page.asarray()
    pixels = _with_channels(np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels)
    if bits < 16:
        pixels = (pixels.astype(np.uint32) * 65535 // (2**bits - 1)).astype(np.uint16)
    return _plain(pixels, page)


def _plain(pixels: Deep, page: Any) -> UInt16[np.ndarray, "h w _"]:
    """Make black 0, and alpha one that colours are not multiplied by."""
    count = _COLORS[page.photometric]
    color, extra = pixels[..., :count], pixels[..., count:]
    # Without the tag that tells what a further channel is, it is alpha, as for Pillow.
    kinds = tuple(page.extrasamples) or (_UNASSOCIATED,) * extra.shape[-1]
    alpha = next((i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)), None)
    if alpha is not None and kinds[alpha] == _ASSOCIATED:
        color = _divided(color, extra[..., alpha : alpha + 1])
    if page.photometric == _WHITE_IS_ZERO:
        color = 65535 - color
    return np.ascontiguousarray(color) if alpha is None else np.dstack([color, extra[..., alpha]])


def _divided(color: Deep, alpha: UInt16[np.ndarray, "h w 1"]) -> Deep:
    """Undo the multiplication of colours by alpha."""
    divisor = np.maximum(alpha, 1).astype(np.uint64)
    return np.minimum((color.astype(np.uint64) * 65535 + divisor // 2) // divisor, 65535).astype(np.uint16)


def _with_channels(pixels: np.ndarray) -> Deep:
    return pixels.reshape(*pixels.shape[:2], -1)


def _kind(page: Any) -> str:
    photometric = getattr(page.photometric, "name", page.photometric)
    return f"a TIFF of {np.max(page.bitspersample)} bits a channel ({page.dtype}, {photometric})"
