"""Pictures as they are compared: RGB of 8 or 16 bits, over white where they have alpha."""

import io
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageCms

from tvt_jax.inference.channels import to_8_bits
from tvt_jax.inference.images import read_picture

Pixels = UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"]


def read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Read a picture as RGB of 8 bits: grey repeated, and laid over white where it is transparent."""
    return _over_white(to_8_bits(read_picture(path).pixels))


def read_exact(path: Path) -> Pixels:
    """Read a picture as `read_rgb` does, but one of 16 bits a channel as such.

    Raises:
        FileNotFoundError: it isn't there.
        ValueError: it can't be read.
    """
    return _over_white(read_picture(path).pixels)


def _over_white(pixels: np.ndarray) -> Any:
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
    transparent = [
        picture.pixels.shape[-1] in (2, 4) and picture.pixels[..., -1].min() < np.iinfo(picture.pixels.dtype).max
        for picture in pictures
    ]
    profiles = [_profile(picture.icc_profile) for picture in pictures]
    found = []
    if transparent[0] != transparent[1]:
        found.append(f"{'the result' if transparent[0] else 'the truth'} alone is transparent, and laid over white")
    found += [f"{path} holds {count} pictures, and the first is compared" for path, count in _several(image, reference)]
    if profiles[0] != profiles[1]:
        found.append(f"the colour profiles differ ({' and '.join(profiles)}), and numbers are compared as they stand")
    return found


def _several(*paths: Path) -> Iterator[tuple[Path, int]]:
    """Give the files that hold more than one picture; those that phones put beside a JPEG's do not count."""
    for path in paths:
        with suppress(OSError), warnings.catch_warnings(action="ignore"), Image.open(path) as file:
            if file.format != "MPO" and (count := getattr(file, "n_frames", 1)) > 1:
                yield path, count


def _profile(data: bytes | None) -> str:
    """Describe an ICC profile; a file without one stands for sRGB."""
    if data is None:
        return "sRGB"
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(data))).strip()
    except (ImageCms.PyCMSError, OSError):
        return "a damaged one"
    return "sRGB" if "sRGB" in name else name
