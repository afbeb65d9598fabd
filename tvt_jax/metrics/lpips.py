"""LPIPS of pictures: the network of `tvt_jax.models.perceptual` with the published weights."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from tvt_jax.metrics import tiles
from tvt_jax.metrics.luma import Pixels, to_unit
from tvt_jax.models.perceptual import LPIPS, VGG16, AlexNet, Net, Params, load_lpips, normalise_input

# With the strides of their levels.
_BACKBONES: dict[Net, tuple[type[AlexNet | VGG16], tuple[int, ...]]] = {
    "alex": (AlexNet, (4, 8, 16, 16, 16)),
    "vgg": (VGG16, (1, 2, 4, 8, 16)),
}


@lru_cache
def _parameters(net: Net) -> Params:
    return jax.device_put(load_lpips(net))


@partial(jax.jit, static_argnames="net")
def _distance(params: Params, x: Array, y: Array, net: Net) -> Array:
    # Accelerators round the inputs of float32 products to 10 bits or fewer unless told not to.
    with jax.default_matmul_precision("highest"):
        return jnp.asarray(LPIPS(net).apply({"params": params}, x, y))


def lpips(image: Pixels, reference: Pixels, net: Net = "alex") -> float:
    """Return the perceptual distance of two pictures of at least 31x31 pixels, 0 for equal ones.

    Compiles once for each size. Source: Zhang et al., arXiv:1801.03924, version 0.1.
    """
    if image.shape[0] * image.shape[1] > tiles.LARGEST:
        return _tiled(image, reference, net)
    return float(_distance(_parameters(net), to_unit(image)[None], to_unit(reference)[None], net)[0])


def _tiled(image: Pixels, reference: Pixels, net: Net) -> float:
    """Average each level's distances over all tiles, and add up the levels."""
    sums, counts = np.zeros(5), np.zeros(5)
    for rows, columns in tiles.split(*image.shape[:2]):
        x, y = (to_unit(picture[rows.outer, columns.outer])[None] for picture in (image, reference))
        found = _level_distances(_parameters(net), x, y, net, rows.inner, columns.inner)
        means, numbers = np.array(found, np.float64).T
        sums, counts = sums + means * numbers, counts + numbers
    return float((sums / counts).sum())


@partial(jax.jit, static_argnames=("net", "rows", "columns"))
def _level_distances(
    params: Params, x: Array, y: Array, net: Net, rows: tuple[int, int | None], columns: tuple[int, int | None]
) -> list[tuple[Array, int]]:
    """Return each level's mean distance in a tile's inner part, and how many features it has there."""
    backbone, strides = _BACKBONES[net]
    distances = []
    with jax.default_matmul_precision("highest"):
        levels = [backbone().apply({"params": params["net"]}, normalise_input(picture)) for picture in (x, y)]
        for level, (of_x, of_y, stride) in enumerate(zip(*levels, strides, strict=True)):
            of_x, of_y = (_unit_length(tiles.inner(features, rows, columns, stride)) for features in (of_x, of_y))
            mean = ((of_x - of_y) ** 2).mean((0, 1, 2)) @ params[f"head_{level}"]["kernel"][:, 0]
            distances.append((mean, of_x.shape[1] * of_x.shape[2]))
    return distances


def _unit_length(x: Array) -> Array:
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
