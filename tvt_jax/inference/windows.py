"""Windows on an enlarged picture, also beyond its borders, without the whole of it."""

from typing import Protocol

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from tvt_jax.pixels import from_uint8

Window = Float[np.ndarray, "h w 3"]


class Source(Protocol):
    """A picture at the size of the result, in [-1, 1]."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def window(self, top: int, left: int, height: int, width: int) -> Window:
        """Part of it; beyond its borders, which may be on any side and far, it is reflected."""


class Enlarged:
    """A picture enlarged by Pillow's bicubic resize, window by window; each pixel is that of the whole's resize."""

    def __init__(self, image: UInt8[np.ndarray, "h w 3"], scale: int) -> None:
        self._image = Image.fromarray(image)
        self._scale = scale

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self._image.height * self._scale, self._image.width * self._scale

    def window(self, top: int, left: int, height: int, width: int) -> Window:
        """Part of it, reflected beyond its borders."""
        rows, columns = (reflect(*span) for span in zip((top, left), (height, width), self.size, strict=True))
        # Whole pixels of the picture: what Pillow is asked for begins and ends at them.
        first, last = (
            np.array([pick(rows), pick(columns)]) // self._scale + plus for pick, plus in ((np.min, 0), (np.max, 1))
        )
        size = tuple(((last - first) * self._scale)[::-1].tolist())
        box = (*first[::-1].tolist(), *last[::-1].tolist())
        part = np.asarray(self._image.resize(size, Image.Resampling.BICUBIC, box))
        begin = first * self._scale
        return from_uint8(part[rows - begin[0]][:, columns - begin[1]])


class Given:
    """A picture that has been enlarged already."""

    def __init__(self, x: Float[np.ndarray, "h w 3"]) -> None:
        self._x = x

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self._x.shape[0], self._x.shape[1]

    def window(self, top: int, left: int, height: int, width: int) -> Window:
        """Part of it, reflected beyond its borders."""
        rows, columns = (reflect(*span) for span in zip((top, left), (height, width), self.size, strict=True))
        return self._x[rows][:, columns].astype(np.float32)


def reflect(begin: int, count: int, length: int) -> Int[np.ndarray, " n"]:
    """Indices into `length` pixels of `count` ones from `begin`, mirrored at both ends as often as needed."""
    period = max(2 * (length - 1), 1)
    index = np.arange(begin, begin + count) % period
    return np.minimum(index, period - index) if length > 1 else index * 0
