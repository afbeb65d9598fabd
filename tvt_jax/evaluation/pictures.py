"""Pictures as they are compared: RGB of 8 or 16 bits, over white where they have alpha."""

import io
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import ImageCms

from tvt_jax.inference.images import read_picture

Pixels = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture as RGB of 8 bits: grey repeated, and laid over white where it is transparent."""
    return _over_white(read_picture(path).pixels)


def read_exact(path: Path) -> Pixels:
    """Read a picture as `read_rgb` does, but one of 16 bits a channel as such.

    Raises:
        FileNotFoundError: it isn't there.
        ValueError: it can't be read, or has 16 bits in a layout that can't be read in full.
    """
    shown = read_picture(path).pixels
    deep = _read_16_bits(path)
    if deep is None:
        return _over_white(shown)
    # Turned, inverted, palettes of samples: whatever the layout, 16 bits must be the picture that 8 bits show.
    rounded = (deep.astype(np.int32) + 128) // 257
    if rounded.shape != shown.shape or np.abs(rounded - shown).max() > 1:
        raise ValueError(f"{path} has 16 bits a channel in a layout that can't be read in full: save it as plain PNG")
    return _over_white(deep)


def _read_16_bits(path: Path) -> UInt16[np.ndarray, "h w c"] | None:
    """Decode a file of 16 bits a channel; None for any other."""
    data = path.read_bytes()
    if (data.startswith(b"\x89PNG") and data[24] != 16) or not data.startswith((b"\x89PNG", b"II*\0", b"MM\0*", b"P6")):
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    if pixels.ndim == 2:
        return pixels[..., None]
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[-1] == 4 else cv2.COLOR_BGR2RGB)


def _over_white(pixels: np.ndarray) -> Pixels:
    """Lay over white, as `tvt upscale` does for JPEG, and repeat grey."""
    if pixels.shape[-1] in (2, 4):
        top = np.iinfo(pixels.dtype).max
        alpha = pixels[..., -1:] / top
        pixels = np.rint(pixels[..., :-1] * alpha + top * (1 - alpha)).astype(pixels.dtype)
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1)


def crop_border(image: np.ndarray, border: int) -> np.ndarray:
    """Cut `border` pixels off each side; raise ValueError where nothing is left."""
    height, width = image.shape[:2]
    if 2 * border >= min(height, width):
        raise ValueError(f"nothing is left of {width}x{height} pixels without a border of {border}")
    return image[border : height - border, border : width - border]


def compare_files(image: Path, reference: Path) -> list[str]:
    """Say what two files have unlike that their numbers do not show: transparency, and the colours they stand for."""
    pictures = [read_picture(path) for path in (image, reference)]
    transparent = [picture.pixels.shape[-1] in (2, 4) and picture.pixels[..., -1].min() < 255 for picture in pictures]
    profiles = [_profile(picture.icc_profile) for picture in pictures]
    found = []
    if transparent[0] != transparent[1]:
        found.append(f"{'the result' if transparent[0] else 'the truth'} alone is transparent, and laid over white")
    if profiles[0] != profiles[1]:
        found.append(f"the colour profiles differ ({' and '.join(profiles)}), and numbers are compared as they stand")
    return found


def _profile(data: bytes | None) -> str:
    """Describe an ICC profile; a file without one stands for sRGB."""
    if data is None:
        return "sRGB"
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data))).strip()
    except (ImageCms.PyCMSError, OSError):
        return "a damaged one"
    return "sRGB" if "sRGB" in name else name
