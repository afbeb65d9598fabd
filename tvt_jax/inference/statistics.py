"""Group norms that see the picture and not the tile: what they go by is gathered from tiles, pooled and given back."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tvt_jax.models.layers import GroupNorm, Moments, norms_by

Result = TypeVar("Result")
# The moments of every norm of a network, by the norm's path.
Statistics = Mapping[str, Moments]

# Keeps the ratio of two variances finite where both vanish; the smallest that any norm adds to a variance itself.
EPSILON = 1e-6


class Norms(NamedTuple):
    """What the norms of a network go by while it runs over a batch of tiles of one picture.

    Attributes:
        boxes: the part of each tile whose pixels count: top, bottom, left and right, as shares of its height and width.
        statistics: moments to go by, if `given`; else corrections of those that the boxes have together.
        given: which of the two.
    """

    boxes: Float[Array | np.ndarray, "b 4"]
    statistics: Statistics | None = None
    given: Bool[Array | np.ndarray, ""] | bool = False


def with_norms(norms: Norms, call: Callable[[], Result]) -> tuple[Result, Statistics]:
    """Make `call`, which applies a network, with its group norms going by `norms`; tell the moments in each box.

    The padding about a picture, and what a tile has in common with its neighbours, are outside the box. So tiles that
    share a picture among them have moments which pool to those of the picture in one piece.
    """
    seen: dict[str, Moments] = {}

    def moments_of(norm: GroupNorm, x: Array) -> Moments:
        name = "/".join(norm.path)
        if name in seen:  # the network runs a second time, on something else
            name = f"{name}, again"
        seen[name] = box_moments(x, norms.boxes, norm.num_groups)
        moments = _pooled(seen[name], _areas(norms.boxes))
        if norms.statistics is None:
            return moments
        told = norms.statistics[name]
        return jax.tree.map(lambda *either: jnp.where(norms.given, *either), told, corrected(moments, told))

    with norms_by(moments_of):
        result = call()
    return result, seen


def box_moments(
    x: Float[Array | np.ndarray, "b h w c"], boxes: Float[Array | np.ndarray, "b 4"], groups: int
) -> Moments:
    """Mean and variance about it of each group of channels over each box's pixels, those on its edge in part."""
    x = jnp.asarray(x, jnp.float32)
    rows, columns = _coverage(x.shape[1], boxes[:, :2]), _coverage(x.shape[2], boxes[:, 2:])
    weights = (rows[:, :, None] * columns[:, None])[..., None]

    def by_group(value: Array) -> Array:
        return (value * weights).sum((1, 2)).reshape(len(x), groups, -1).mean(-1)

    mean = by_group(x)
    about = x - jnp.repeat(mean, x.shape[-1] // groups, axis=-1)[:, None, None]
    return Moments(mean, by_group(jnp.square(about)))


def pool(seen: Sequence[tuple[Statistics, Float[np.ndarray, "b 4"]]]) -> Statistics:
    """Give the moments of all boxes of batches together."""
    areas = np.concatenate([_areas(boxes) for _, boxes in seen])
    together = jax.tree.map(lambda *parts: np.concatenate(parts, dtype=np.float64), *(batch for batch, _ in seen))
    return {name: _pooled(moments, areas) for name, moments in together.items()}


def correction(of: Statistics, towards: Statistics) -> Statistics:
    """Find what makes moments `of` some tiles those of all: a shift in deviations, a factor of the variance."""
    return {name: _ratio(of[name], towards[name]) for name in of}


def corrected(moments: Moments, by: Moments) -> Moments:
    """`moments` after a correction."""
    mean = moments.mean + by.mean * jnp.sqrt(moments.variance + EPSILON)
    return Moments(mean, jax.nn.relu((moments.variance + EPSILON) * by.variance - EPSILON))


def no_correction(shapes: Statistics) -> Statistics:
    """Corrections that change nothing, for norms whose moments in a batch have these `shapes`."""
    return {
        name: Moments(np.zeros(moments.mean.shape[1:], np.float32), np.ones(moments.mean.shape[1:], np.float32))
        for name, moments in shapes.items()
    }


def _pooled(moments: Moments, areas: Array | np.ndarray) -> Moments:
    shares = (areas / areas.sum())[:, None]
    mean = (shares * moments.mean).sum(0)
    return Moments(mean, (shares * (moments.variance + (moments.mean - mean) ** 2)).sum(0))


def _ratio(of: Moments, towards: Moments) -> Moments:
    shift = (towards.mean - of.mean) / np.sqrt(of.variance + EPSILON)
    factor = (towards.variance + EPSILON) / (of.variance + EPSILON)
    return Moments(shift.astype(np.float32), factor.astype(np.float32))


def _areas(boxes: Any) -> Any:
    return (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])


def _coverage(length: int, spans: Array | np.ndarray) -> Float[Array, "b n"]:
    """Give the share of each of `length` pixels in what lies within each span (begin, end); their sum is 1, or 0."""
    edges = jnp.arange(length + 1) / length
    covered = jnp.diff(jnp.clip(edges, spans[:, :1], spans[:, 1:]))
    return covered / jnp.maximum(covered.sum(1, keepdims=True), 1e-12)
