"""Images of several sizes from one batch.

Where all images are of one size, a network learns how much of them lies by the border, where convolutions meet zeros
and group norms see it, and reads brightness off that: it is off on images of any other size.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

Result = TypeVar("Result")


def in_pieces(
    run: Callable[..., Result],
    pieces: tuple[int, ...],
    images: Shaped[Array, "b h w c"],
    *beside: Shaped[Array, "b ..."],
) -> Result:
    """Run something on a batch cut into pieces, and join what comes out of it.

    Args:
        run: makes of images (n, h, w, c), and of what lies beside those that they are cut from, a tree of arrays
            (n, h2, w2, c2). The pieces of an image follow one another.
        pieces: into how many rows of as many pieces an image is cut: a number for each equal part of the batch.
        images: whose sides are multiples of all these numbers.
        beside: arrays with a row for each image, which are not cut.

    Raises:
        ValueError: the batch has no such parts.
    """
    if pieces == (1,):
        return run(images, *beside)
    if len(images) % len(pieces):
        raise ValueError(
            f"data.batch: {len(images)} images are not {len(pieces)} equal parts, one for each of the stage's pieces "
            f"{pieces}"
        )
    parts = zip(pieces, *(jnp.split(array, len(pieces)) for array in (images, *beside)), strict=True)
    results = [jax.tree.map(partial(_join, count), run(_cut(count, part), *of_part)) for count, part, *of_part in parts]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *results)


def _cut(count: int, images: Shaped[Array, "b h w c"]) -> Shaped[Array, "n h2 w2 c"]:
    b, h, w, c = images.shape
    rows = images.reshape(b, count, h // count, count, w // count, c)
    return rows.swapaxes(2, 3).reshape(-1, h // count, w // count, c)


def _join(count: int, cut: Shaped[Array, "n h2 w2 c"]) -> Shaped[Array, "b h w c"]:
    _, h, w, c = cut.shape
    return cut.reshape(-1, count, count, h, w, c).swapaxes(2, 3).reshape(-1, count * h, count * w, c)
