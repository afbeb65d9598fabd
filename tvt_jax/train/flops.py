"""Multiplications and additions of a program's matrix products and convolutions, counted in its jaxpr."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import jaxprs_in_params

# Matrix products in each kernel of splash attention: scores and results; scores, weights' gradients and queries';
# scores, values' gradients, weights' and keys'.
_SPLASH = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}


class Flops(NamedTuple):
    """Counts of FLOPs.

    Attributes:
        compiler: of what the compiler makes itself.
        kernels: of Pallas kernels.
    """

    compiler: float
    kernels: float


def count_flops(jaxpr: Any) -> Flops:
    """FLOPs of a program on all devices together, whatever is computed again in a backward pass included.

    Loops count as often as they run, and of branches the dearest counts. XLA's own count takes the body of a loop once,
    and Pallas kernels not at all.
    """
    counts = [_of_equation(equation) for equation in jaxpr.eqns]
    return Flops(*(sum(count[i] for count in counts) for i in range(2)))


def _of_equation(equation: Any) -> Flops:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return Flops(2.0 * depth * equation.outvars[0].aval.size, 0.0)
    if name == "conv_general_dilated":
        return Flops(_of_convolution(equation), 0.0)
    if name == "pallas_call":
        return Flops(0.0, _of_kernel(equation))
    inner = [count_flops(getattr(jaxpr, "jaxpr", jaxpr)) for jaxpr in jaxprs_in_params(params)]
    if name == "cond":
        return max(inner, key=sum)
    times = params["length"] if name == "scan" else params["mesh"].size if name == "shard_map" else 1
    return Flops(*(times * sum(count[i] for count in inner) for i in range(2)))


def _of_convolution(equation: Any) -> float:
    """Zeros put between pixels, as gradients of strided convolutions have them, are not counted."""
    kernel = equation.invars[1].aval
    numbers = equation.params["dimension_numbers"]
    channels_in = kernel.shape[numbers.rhs_spec[1]]
    window = math.prod(kernel.shape[axis] for axis in numbers.rhs_spec[2:])
    return 2.0 * equation.outvars[0].aval.size * channels_in * window / math.prod(equation.params["lhs_dilation"])


def _of_kernel(equation: Any) -> float:
    name = equation.params["name"]
    products = next((count for kernel, count in _SPLASH.items() if name.startswith(kernel)), None)
    if products is None:
        raise ValueError(f"no FLOPs are known of the Pallas kernel {name}")
    arrays = (variable.aval for variable in equation.invars)
    queries, keys, *_ = (array for array in arrays if jnp.issubdtype(array.dtype, jnp.floating))
    return 2.0 * products * queries.size * keys.shape[-2]
