"""Running a network over a large image or latent tile by tile, blended so that no seam shows."""

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
from jaxtyping import Array, Float

Map = Float[np.ndarray, "b h w c"]
Progress = Callable[[Iterable], Iterable]


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles of `tile` begin along `length`, each over its neighbour by at least `overlap`, the last flush."""
    last = max(length - tile, 0)
    return [*range(0, last, tile - overlap), last]


def gaussian_weights(height: int, width: int) -> Float[np.ndarray, "h w 1"]:
    """Make a Gaussian about the tile's centre with variance 0.01 in units of its size, as in TVT's release."""
    rows, columns = (np.exp(-(((np.arange(n) - (n - 1) / 2) / n) ** 2) / (2 * 0.01)) for n in (height, width))
    return np.outer(rows, columns)[..., None].astype(np.float32)


def blend_tiles(
    function: Callable[[Map], Float[Array, "b h2 w2 d"] | Float[np.ndarray, "b h2 w2 d"]],
    image: Map,
    tile: int,
    overlap: int,
    factor: Fraction | int = 1,
    progress: Progress = iter,
) -> Float[np.ndarray, "b h2 w2 d"]:
    """Apply `function`, whose results are `factor` times as large, to tiles and average them with Gaussian weights.

    Every tile has the same shape (`tile`, or the image's own size where that is smaller), so one program serves all.

    Args:
        function: the network; where it shrinks, everything here must be a multiple of 1 / `factor`.
        image: what is cut into tiles.
        tile: their side.
        overlap: by how much neighbours overlap at least.
        factor: how many times as large the function's results are.
        progress: wraps the loop over tiles (tqdm, for instance).
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"tiles of {tile} can't overlap by {overlap}: the overlap must be smaller than the tile")
    height, width = (min(tile, n) for n in image.shape[1:3])
    weights = gaussian_weights(int(height * factor), int(width * factor))
    size = int(image.shape[1] * factor), int(image.shape[2] * factor)
    weight = np.zeros((*size, 1), np.float32)
    total: np.ndarray | None = None
    corners = [(y, x) for y in starts(image.shape[1], tile, overlap) for x in starts(image.shape[2], tile, overlap)]
    for y, x in progress(corners):
        result = np.asarray(function(image[:, y : y + height, x : x + width]), np.float32)
        if total is None:
            total = np.zeros((len(image), *size, result.shape[-1]), np.float32)
        top, left = int(y * factor), int(x * factor)
        window = np.s_[top : top + weights.shape[0], left : left + weights.shape[1]]
        total[:, *window] += result * weights
        weight[window] += weights
    assert total is not None  # there is always a tile
    total /= weight
    return total
