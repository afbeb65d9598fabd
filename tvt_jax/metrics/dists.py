"""DISTS of pictures: the network of `tvt_jax.models.dists` with the published weights."""

from functools import lru_cache

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tvt_jax.metrics.luma import Pixels, to_unit
from tvt_jax.models.dists import DISTS, load_dists
from tvt_jax.models.perceptual import Params


@lru_cache
def _parameters() -> Params:
    return jax.device_put(load_dists())


@jax.jit
def _distance(params: Params, x: Array, y: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return jnp.asarray(DISTS().apply({"params": params}, x, y))


def dists(image: Pixels, reference: Pixels) -> float:
    """Return the distance of two pictures of at least 16x16 pixels, 0 for equal ones; compile once for each size."""
    return float(_distance(_parameters(), to_unit(image)[None], to_unit(reference)[None])[0])
