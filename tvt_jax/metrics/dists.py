"""DISTS of pictures: the network of `tvt_jax.models.dists` with the published weights."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from tvt_jax.models.dists import DISTS, load_dists
from tvt_jax.models.perceptual import Params
from tvt_jax.pixels import from_uint8


@lru_cache
def _parameters() -> Params:
    return jax.device_put(load_dists())


@jax.jit
def _distance(params: Params, x: Array, y: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        x, y = from_uint8(x), from_uint8(y)
        return jnp.asarray(DISTS().apply({"params": params}, x, y))


def dists(image: UInt8[np.ndarray, "h w 3"], reference: UInt8[np.ndarray, "h w 3"]) -> float:
    """Return the distance of two pictures of at least 16x16 pixels, 0 for equal ones; compile once for each size."""
    return float(_distance(_parameters(), jnp.asarray(image)[None], jnp.asarray(reference)[None])[0])
