"""Multiplications and additions of a program's matrix products and convolutions, counted in its jaxpr."""

import math
from collections.abc import Iterable, Sequence
from functools import reduce
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
        kernels: of Pallas kernels.
    """

    compiler: float
    kernels: float


def count_flops(jaxpr: Any) -> Flops:
    """FLOPs of a program on all devices together, whatever is computed again in a backward pass included.

    Loops count as often as they run, of branches the dearest counts, and what nothing is made of does not. XLA's own
    count takes the body of a loop once, and Pallas kernels not at all.
    """
    return _sum(_of_equation(equation) for equation in _used(jaxpr))


def count_needed_flops(jaxpr: Any, trained: Sequence[bool]) -> Flops:
    """FLOPs of a loss and its gradients, with nothing computed twice: what reverse mode cannot do without.

    A product is made once forwards, and once more for each of its operands that depend on what is trained.

    Args:
        jaxpr: of the loss alone.
        trained: for each of its inputs, whether the gradient by it is wanted.
    """
    return _needed(jaxpr, trained)[0]


def _of_equation(equation: Any) -> Flops:
    name, params = equation.primitive.name, equation.params
    if name in _OWN:
        return _OWN[name](equation)
    inner = [count_flops(jaxpr) for jaxpr in _inner(params)]
    if name == "cond":
        return max(inner, key=sum)
    return _times(_repetitions(name, params), _sum(inner))


def _needed(jaxpr: Any, trained: Sequence[bool]) -> tuple[Flops, list[bool]]:
    """FLOPs, and which results depend on what is trained, when these inputs do."""
    depending = dict(zip(jaxpr.invars, trained, strict=True))
    counts = []
    for equation in _used(jaxpr):
        needed, outputs = _needed_of_equation(equation, [_depends(atom, depending) for atom in equation.invars])
        depending.update(zip(equation.outvars, outputs, strict=True))
        counts.append(needed)
    return _sum(counts), [_depends(atom, depending) for atom in jaxpr.outvars]


def _needed_of_equation(equation: Any, inputs: list[bool]) -> tuple[Flops, list[bool]]:
    name, params = equation.primitive.name, equation.params
    outputs = [any(inputs) and name != "stop_gradient"] * len(equation.outvars)
    if name == "pallas_call":  # attention: both operands of its products do, or none
        return _times(1 + 2 * any(inputs), _of_kernel(equation)), outputs
    if name in _OWN:
        return _times(1 + sum(inputs), _OWN[name](equation)), outputs
    inner = _inner(params)
    if not inner:
        return Flops(0.0, 0.0), outputs
    if name == "scan":
        inputs = _carried_around(inner[0], inputs, params["num_consts"], params["num_carry"])
    if name == "cond":
        needed, ways = zip(*(_needed(jaxpr, inputs[1:]) for jaxpr in inner), strict=True)
        return max(needed, key=sum), [any(way) for way in zip(*ways, strict=True)]
    needed, outputs = _needed(inner[0], inputs)
    return _times(_repetitions(name, params), needed), outputs


def _carried_around(body: Any, inputs: list[bool], constants: int, carried: int) -> list[bool]:
    """Which inputs of a loop's body depend on what is trained, in some round."""
    while True:
        _, outputs = _needed(body, inputs)
        carry = slice(constants, constants + carried)
        later = [a or b for a, b in zip(inputs[carry], outputs[:carried], strict=True)]
        if later == inputs[carry]:
            return inputs
        inputs = [*inputs[:constants], *later, *inputs[constants + carried :]]


def _used(jaxpr: Any) -> list[Any]:
    """Equations that the results are made of; the compiler drops the others."""
    used, equations = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if not used.isdisjoint(equation.outvars):
            used.update(atom for atom in equation.invars if not isinstance(atom, Literal))
            equations.append(equation)
    return equations[::-1]


def _depends(atom: Any, depending: dict[Any, bool]) -> bool:
    return not isinstance(atom, Literal) and depending.get(atom, False)


def _inner(params: dict[str, Any]) -> list[Any]:
    return [getattr(jaxpr, "jaxpr", jaxpr) for jaxpr in jaxprs_in_params(params)]


def _repetitions(name: str, params: dict[str, Any]) -> int:
    return params["length"] if name == "scan" else params["mesh"].size if name == "shard_map" else 1


def _sum(counts: Iterable[Flops]) -> Flops:
    return reduce(lambda a, b: Flops(a.compiler + b.compiler, a.kernels + b.kernels), counts, Flops(0.0, 0.0))


def _times(count: int, flops: Flops) -> Flops:
    return Flops(count * flops.compiler, count * flops.kernels)


def _of_product(equation: Any) -> Flops:
    (contracted, _), _ = equation.params["dimension_numbers"]
    depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return Flops(2.0 * depth * equation.outvars[0].aval.size, 0.0)


def _of_convolution(equation: Any) -> Flops:
    """Zeros put between pixels, as gradients of strided convolutions have them, are not counted."""
    kernel = equation.invars[1].aval
    numbers = equation.params["dimension_numbers"]
    channels_in = kernel.shape[numbers.rhs_spec[1]]
    window = math.prod(kernel.shape[axis] for axis in numbers.rhs_spec[2:])
    spread = math.prod(equation.params["lhs_dilation"])
    return Flops(2.0 * equation.outvars[0].aval.size * channels_in * window / spread, 0.0)


def _of_kernel(equation: Any) -> Flops:
    name = equation.params["name"]
    products = next((count for kernel, count in _SPLASH.items() if name.startswith(kernel)), None)
    if products is None:
        raise ValueError(f"no FLOPs are known of the Pallas kernel {name}")
    arrays = (variable.aval for variable in equation.invars)
    queries, keys, *_ = (array for array in arrays if jnp.issubdtype(array.dtype, jnp.floating))
    return Flops(0.0, 2.0 * products * queries.size * keys.shape[-2])


_OWN = {"dot_general": _of_product, "conv_general_dilated": _of_convolution, "pallas_call": _of_kernel}
