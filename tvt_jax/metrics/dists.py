"""DISTS of pictures: the network of `tvt_jax.models.dists` with the published weights."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from tvt_jax.metrics import tiles
from tvt_jax.metrics.luma import Pixels, to_unit
from tvt_jax.models.dists import DISTS, l2_pool, load_dists
from tvt_jax.models.perceptual import VGG16, Params, normalise_input

_STRIDES = (1, 1, 2, 4, 8, 16)  # of the picture itself and VGG16's five levels
_EPSILON = 1e-6  # of equations 3 and 4


@lru_cache
def _parameters() -> Params:
    return jax.device_put(load_dists())


@jax.jit
def _distance(params: Params, x: Array, y: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return jnp.asarray(DISTS().apply({"params": params}, x, y))


def dists(image: Pixels, reference: Pixels) -> float:
    """Return the distance of two pictures of at least 16x16 pixels, 0 for equal ones; compile once for each size."""
    if image.shape[0] * image.shape[1] > tiles.LARGEST:
        return _tiled(image, reference)
    return float(_distance(_parameters(), to_unit(image)[None], to_unit(reference)[None])[0])


def _tiled(image: Pixels, reference: Pixels) -> float:
    """Add up all tiles' moments, and compare those of the whole picture."""
    params = _parameters()
    totals, counts = [np.zeros(1)] * len(_STRIDES), [0] * len(_STRIDES)
    for rows, columns in tiles.split(*image.shape[:2]):
        x, y = (to_unit(picture[rows.outer, columns.outer])[None] for picture in (image, reference))
        found = _moments(params["net"], x, y, rows.inner, columns.inner)
        for level, (moments, count) in enumerate(found):
            totals[level] = totals[level] + _raw(np.asarray(moments, np.float64)) * int(count)
            counts[level] += int(count)
    whole = [total / count for total, count in zip(totals, counts, strict=True)]
    texture, structure = (np.concatenate(parts) for parts in zip(*map(_similarities, whole), strict=True))
    alpha, beta = (np.asarray(params[name], np.float64) for name in ("alpha", "beta"))
    return float(1 - (texture @ alpha + structure @ beta) / (alpha.sum() + beta.sum()))


@partial(jax.jit, static_argnames=("rows", "columns"))
def _moments(
    params: Params, x: Array, y: Array, rows: tuple[int, int | None], columns: tuple[int, int | None]
) -> list[tuple[Array, int]]:
    """Return each level's two means, the sum of its variances and its covariance by channel in a tile's inner part."""
    found = []
    with jax.default_matmul_precision("highest"):
        backbone = VGG16(pool=l2_pool)
        levels = [[(z + 1) / 2, *backbone.apply({"params": params}, normalise_input(z))] for z in (x, y)]
        for of_x, of_y, stride in zip(*levels, _STRIDES, strict=True):
            of_x, of_y = (tiles.inner(features, rows, columns, stride) for features in (of_x, of_y))
            mean_x, mean_y = of_x.mean((0, 1, 2)), of_y.mean((0, 1, 2))
            # Centred first: the difference of two large means would lose digits in float32.
            variances = ((of_x - mean_x) ** 2 + (of_y - mean_y) ** 2).mean((0, 1, 2))
            covariance = ((of_x - mean_x) * (of_y - mean_y)).mean((0, 1, 2))
            found.append((jnp.stack([mean_x, mean_y, variances, covariance]), of_x.shape[1] * of_x.shape[2]))
    return found


def _raw(moments: np.ndarray) -> np.ndarray:
    """Turn central moments into raw ones, which can be added up over tiles."""
    mean_x, mean_y, variances, covariance = moments
    return np.stack([mean_x, mean_y, variances + mean_x**2 + mean_y**2, covariance + mean_x * mean_y])


def _similarities(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean_x, mean_y, squares, products = raw
    variances, covariance = squares - mean_x**2 - mean_y**2, products - mean_x * mean_y
    texture = (2 * mean_x * mean_y + _EPSILON) / (mean_x**2 + mean_y**2 + _EPSILON)
    return texture, (2 * covariance + _EPSILON) / (variances + _EPSILON)
