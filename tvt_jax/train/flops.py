"""Multiplications and additions of a program's matrix products and convolutions, counted in its jaxpr."""

import math
from collections.abc import Callable, Iterable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.extend.core import Literal, jaxprs_in_params

# Matrix products in each kernel of splash attention: scores and results; scores, weights' gradients and queries';
# scores, values' gradients, weights' and keys'.
_SPLASH = {"splash_mha_fwd": 2, "splash_mha_dq": 3, "splash_mha_dkv": 4}


class Flops(NamedTuple):
    """Counts of FLOPs.

    Attributes:
        compiler: of what the compiler makes itself.
        kernels: of Pallas kernels, and of cuDNN's attention.
    """

    compiler: float
    kernels: float


def count_flops(jaxpr: Any) -> Flops:
    """Count the FLOPs of a program on all devices together, with whatever a backward pass computes again.

    Loops count as often as they run, of branches the dearest counts, and what nothing is made of does not. XLA's own
    count takes the body of a loop once, and Pallas kernels not at all.
    """
    return total(_of_equation(equation) for equation in used_equations(jaxpr))


def _of_equation(equation: Any) -> Flops:
    name, params = equation.primitive.name, equation.params
    if name in OWN:
        return OWN[name](equation)
    counts = [count_flops(jaxpr) for jaxpr in inner_programs(params)]
    if name == "cond":
        return max(counts, key=sum)
    return times(repetitions(name, params), total(counts))


def used_equations(jaxpr: Any) -> list[Any]:
    """List the equations that the results are made of; the compiler drops the others."""
    used, equations = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if not used.isdisjoint(equation.outvars):
            used.update(atom for atom in equation.invars if not isinstance(atom, Literal))
            equations.append(equation)
    return equations[::-1]


def inner_programs(params: dict[str, Any]) -> list[Any]:
    """Give the programs within an equation."""
    return [getattr(jaxpr, "jaxpr", jaxpr) for jaxpr in jaxprs_in_params(params)]


def repetitions(name: str, params: dict[str, Any]) -> int:
    """Tell how often a program within an equation runs."""
    return params["length"] if name == "scan" else params["mesh"].size if name == "shard_map" else 1


def total(counts: Iterable[Flops]) -> Flops:
    """Add counts up."""
    return reduce(lambda a, b: Flops(a.compiler + b.compiler, a.kernels + b.kernels), counts, Flops(0.0, 0.0))


def times(count: int, flops: Flops) -> Flops:
    """Multiply a count."""
    return Flops(count * flops.compiler, count * flops.kernels)


def _of_product(equation: Any) -> Flops:
    (contracted, _), _ = equation.params["dimension_numbers"]
    depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return Flops(2.0 * depth * equation.outvars[0].aval.size, 0.0)


def _of_convolution(equation: Any) -> Flops:
    """Leave out zeros put between pixels, as gradients of strided convolutions have them."""
    kernel = equation.invars[1].aval
    numbers = equation.params["dimension_numbers"]
    channels_in = kernel.shape[numbers.rhs_spec[1]]
    window = math.prod(kernel.shape[axis] for axis in numbers.rhs_spec[2:])
    spread = math.prod(equation.params["lhs_dilation"])
    return Flops(2.0 * equation.outvars[0].aval.size * channels_in * window / spread, 0.0)


def of_kernel(equation: Any) -> Flops:
    """Count those of a Pallas kernel of splash attention; raise ValueError for any other."""
    name = equation.params["name"]
    products = next((count for kernel, count in _SPLASH.items() if name.startswith(kernel)), None)
    if products is None:
        raise ValueError(f"no FLOPs are known of the Pallas kernel {name}")
    arrays = (variable.aval for variable in equation.invars)
    queries, keys, *_ = (array for array in arrays if jnp.issubdtype(array.dtype, jnp.floating))
    return Flops(0.0, 2.0 * products * queries.size * keys.shape[-2])


def _of_cudnn(equation: Any, products: int) -> Flops:
    """Count those of cuDNN's attention: of [b n heads d] or [b heads n d], as the equation says."""
    query, key, *_ = (variable.aval for variable in equation.invars)
    keys = key.shape[2 if equation.params["layout"] else 1]  # AttentionLayout.BTNH is 0
    return Flops(0.0, 2.0 * products * query.size * keys)


OWN: dict[str, Callable[[Any], Flops]] = {
    "dot_general": _of_product,
    "conv_general_dilated": _of_convolution,
    "pallas_call": of_kernel,
    # Scores and results; scores again, and the gradients of values, weights, queries and keys.
    "dot_product_attention_fwd_wrapper": partial(_of_cudnn, products=2),
    "dot_product_attention_bwd_wrapper": partial(_of_cudnn, products=5),
}
