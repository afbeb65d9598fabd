"""Decoding what Pillow cuts off or refuses: more than 8 bits a channel, and TIFFs of grey and RGB at every depth."""

import io
import math
import re
import warnings
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile
from jaxtyping import UInt, UInt16

from tvt_jax.inference import png

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNM_SIGNATURES = (b"P5", b"P6")
_COMMENT, _LONGEST_PNM_HEADER = re.compile(rb"#[^\n]*"), 1000
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}
_ASSOCIATED, _UNASSOCIATED = 1, 2

# It tells of damaged tags without the file's name; damage that costs pixels is an error here.
tifffile.logger().disabled = True

Pixels = UInt[np.ndarray, "h w c"]


def decode_exactly(data: bytes) -> Pixels | None:
    """Decode a PNG or PNM of more than 8 bits a channel, or a TIFF of 8 to 16; None for any other.

    9 to 15 bits are scaled to 16. Nothing is turned.

    Raises:
        ValueError: it is a TIFF of a kind that has no agreed range, or lacks pixels.
    """
    if data.startswith(png.SIGNATURE) and png.bits_of(data) == 16:
        return _with_channels(imagecodecs.png_decode(png.pixels_alone(data)))
    if data.startswith(TIFF_SIGNATURES):
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            if not file.pages:
                raise ValueError("it ends before all pixels are there")
            if file.pages.first.is_reduced:
                warnings.warn("its first page, which is taken, is a preview of another one", stacklevel=2)
            return _decode_page(file.pages.first, len(data))
    if data.startswith(_PNM_SIGNATURES):
        return _decode_pnm(data)
    return None


def _decode_pnm(data: bytes) -> Pixels | None:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    top = int(_COMMENT.sub(b"", data[:_LONGEST_PNM_HEADER]).split(maxsplit=4)[3])
    # OpenCV gives blue first, and numbers as they stand.
    return _scaled(pixels[..., ::-1] if pixels.ndim == 3 else pixels[..., None], top)


def _decode_page(page: Any, length: int) -> Pixels | None:
    if not _is_whole(page, length):
        raise ValueError("it ends before all pixels are there")
    bits = int(np.max(page.bitspersample))
    # Pillow mixes 16-bit inks well enough: CMYK becomes 8-bit sRGB in any case.
    if page.photometric == _CMYK or (bits <= 8 and page.photometric not in _COLORS) or bits < 8:
        return None
    if page.dtype not in (np.uint8, np.uint16) or page.photometric not in _COLORS or page.imagedepth > 1:
        raise ValueError(f"{_kind(page)} has no agreed range: save it with 8 or 16 bits a channel, grey or RGB")
    pixels = page.asarray()
    pixels = _with_channels(np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels)
    return _plain(_scaled(pixels, 2**bits - 1) if 8 < bits < 16 else pixels, page)


def _is_whole(page: Any, length: int) -> bool:
    """Tell whether all strips or tiles lie in the file: of those that don't, decoders make black."""
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    return len(parts) >= math.prod(page.chunked) and all(size and start + size <= length for start, size in parts)


def _scaled(pixels: Pixels, top: int) -> UInt16[np.ndarray, "h w c"]:
    """Scale what goes up to `top` to 16 bits."""
    return np.minimum(pixels.astype(np.uint32) * 65535 // top, 65535).astype(np.uint16)


def _plain(pixels: Pixels, page: Any) -> UInt[np.ndarray, "h w _"]:
    """Make black 0, and alpha one that colours are not multiplied by."""
    count = _COLORS[page.photometric]
    color, extra = pixels[..., :count], pixels[..., count:]
    # Without the tag that tells what a further channel is, it is alpha, as for Pillow.
    kinds = tuple(page.extrasamples) or (_UNASSOCIATED,) * extra.shape[-1]
    alpha = next((i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)), None)
    if alpha is not None and kinds[alpha] == _ASSOCIATED:
        color = _divided(color, extra[..., alpha : alpha + 1])
    if page.photometric == _WHITE_IS_ZERO:
        color = np.iinfo(color.dtype).max - color
    return np.ascontiguousarray(color) if alpha is None else np.dstack([color, extra[..., alpha]])


def _divided(color: Pixels, alpha: UInt[np.ndarray, "h w 1"]) -> Pixels:
    """Undo the multiplication of colours by alpha."""
    top, divisor = np.iinfo(color.dtype).max, np.maximum(alpha, 1).astype(np.uint64)
    return np.minimum((color.astype(np.uint64) * top + divisor // 2) // divisor, top).astype(color.dtype)


def _with_channels(pixels: np.ndarray) -> Pixels:
    return pixels.reshape(*pixels.shape[:2], -1)


def _kind(page: Any) -> str:
    photometric = getattr(page.photometric, "name", page.photometric)
    return f"a TIFF of {np.max(page.bitspersample)} bits a channel ({page.dtype}, {photometric})"
