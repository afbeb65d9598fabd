"""Windows on an enlarged picture, also beyond its borders, without the whole of it."""

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float, Int, UInt
from PIL import Image

from tvt_jax.pixels import from_integers

# Pixels beyond a part that enlarging it looks at.
BICUBIC_REACH = 2

Window = Float[np.ndarray, "h w 3"]
Rows = Int[np.ndarray, " h"]
Columns = Int[np.ndarray, " w"]


class Source(ABC):
    """A picture at the size of the result, in [-1, 1].

    Attributes:
        size: its height and width.
    """

    size: tuple[int, int]

    def window(self, top: int, left: int, height: int, width: int) -> Window:
        """Part of it; beyond its borders, which may be on any side and far, it is reflected."""
        return self._pixels(reflect(top, height, self.size[0]), reflect(left, width, self.size[1]))

    @abstractmethod
    def _pixels(self, rows: Rows, columns: Columns) -> Window:
        """Give the pixels where `rows` and `columns` cross."""


class Enlarged(Source):
    """A picture enlarged by Pillow's bicubic resize, window by window; each pixel is that of the whole's resize.

    It is rounded to the picture's own depth, 8 or 16 bits.
    """

    def __init__(self, image: UInt[np.ndarray, "h w 3"], scale: int) -> None:
        self.size = image.shape[0] * scale, image.shape[1] * scale
        self._scale = scale
        # Pillow has no 16-bit RGB.
        self._bands = [Image.fromarray(band) for band in ([image] if image.dtype == np.uint8 else _split(image))]

    def _pixels(self, rows: Rows, columns: Columns) -> Window:
        (top, bottom), (left, right) = (
            (int(index.min()) // self._scale, int(index.max()) // self._scale + 1) for index in (rows, columns)
        )
        part = np.dstack([np.asarray(self._enlarge(band, top, bottom, left, right)) for band in self._bands])
        return from_integers(part[rows - top * self._scale][:, columns - left * self._scale])

    def _enlarge(self, band: Image.Image, top: int, bottom: int, left: int, right: int) -> Image.Image:
        """Enlarge part of the picture: widen, then heighten, for the order that Pillow takes depends on the part."""
        first, last = max(top - BICUBIC_REACH, 0), min(bottom + BICUBIC_REACH, band.height)
        width, strip = (right - left) * self._scale, band.crop((0, first, band.width, last))
        wide = strip.resize((width, strip.height), Image.Resampling.BICUBIC, (left, 0, right, strip.height))
        size = (width, (bottom - top) * self._scale)
        return wide.resize(size, Image.Resampling.BICUBIC, (0, top - first, width, bottom - first))


class Given(Source):
    """A picture that has been enlarged already."""

    def __init__(self, x: Float[np.ndarray, "h w 3"]) -> None:
        self.size = x.shape[0], x.shape[1]
        self._x = x

    def _pixels(self, rows: Rows, columns: Columns) -> Window:
        return self._x[rows][:, columns].astype(np.float32)


def reflect(begin: int, count: int, length: int) -> Int[np.ndarray, " n"]:
    """Give indices into `length` pixels of `count` ones from `begin`, mirrored at both ends as often as needed."""
    period = max(2 * (length - 1), 1)
    index = np.arange(begin, begin + count) % period
    return np.minimum(index, period - index) if length > 1 else index * 0


def _split(image: UInt[np.ndarray, "h w 3"]) -> list[UInt[np.ndarray, "h w"]]:
    return [np.ascontiguousarray(image[..., i]) for i in range(image.shape[-1])]
