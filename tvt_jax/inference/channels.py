"""What happens to pictures channel by channel, at the depth they have: 8 or 16 bits."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt, UInt8
from PIL import Image

# EXIF 2.3, tag 274: from how the pixels are stored to how they are seen.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn by EXIF's orientation; what it doesn't define turns nothing."""
    return np.ascontiguousarray(_TURNS.get(orientation, np.asarray)(pixels))


def to_8_bits(pixels: UInt[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "h w *c"]:
    """Round 16 bits a channel to 8; 8 bits stay."""
    if pixels.dtype == np.uint8:
        return pixels
    # 65535 / 255 = 257 exactly. Strip by strip, because this needs twice the memory.
    result = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), 256):
        result[top : top + 256] = (pixels[top : top + 256].astype(np.uint32) + 128) // 257
    return result


def resize(
    pixels: UInt[np.ndarray, "h w *c"], size: tuple[int, int], resample: Image.Resampling
) -> UInt[np.ndarray, "H W *c"]:
    """Resize grey or RGB `pixels` (Pillow, antialiased) to `size` = (height, width)."""
    if pixels.dtype == np.uint8 or pixels.ndim == 2:
        return np.asarray(Image.fromarray(pixels).resize(size[::-1], resample))
    return np.dstack([resize(np.ascontiguousarray(pixels[..., i]), size, resample) for i in range(pixels.shape[-1])])


def enlarge(pixels: UInt[np.ndarray, "h w c"], size: tuple[int, int]) -> UInt[np.ndarray, "H W c"]:
    """Enlarge a picture of any kind to `size` = (height, width), without any network (bicubic)."""
    if pixels.shape[-1] in (2, 4):
        pixels = np.dstack([spread_color(pixels[..., :-1], pixels[..., -1]), pixels[..., -1]])
    bands = (np.ascontiguousarray(pixels[..., i]) for i in range(pixels.shape[-1]))
    return np.dstack([resize(band, size, Image.Resampling.BICUBIC) for band in bands])


def to_grey(pixels: UInt[np.ndarray, "h w 3"]) -> UInt[np.ndarray, "h w"]:
    """Reduce RGB to luma (ITU-R BT.601)."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def spread_color(color: UInt[np.ndarray, "h w c"], alpha: UInt[np.ndarray, "h w"]) -> UInt[np.ndarray, "h w c"]:
    """Give wholly transparent pixels the colour of the nearest visible one.

    What is stored under them is arbitrary (often black) and would bleed into visible edges when enlarged.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return color
    labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    palette = np.zeros((labels.max() + 1, color.shape[-1]), color.dtype)
    palette[labels[~hidden]] = color[~hidden]
    return palette[labels]
