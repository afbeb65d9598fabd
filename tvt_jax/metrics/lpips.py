"""LPIPS of pictures: the network of `tvt_jax.models.perceptual` with the published weights."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tvt_jax.metrics.luma import Pixels, to_unit
from tvt_jax.models.perceptual import LPIPS, Net, Params, load_lpips


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
    return float(_distance(_parameters(net), to_unit(image)[None], to_unit(reference)[None], net)[0])
