"""FLOPs that the gradients of a loss cannot do without, counted in its jaxpr."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import Literal

from tvt_jax.train import flops


def count_needed_flops(jaxpr: Any, trained: Sequence[bool]) -> flops.Flops:
    """Count the FLOPs of a loss and its gradients that reverse mode cannot do without: nothing is computed twice.

    A product is made once forwards, and once more for each of its operands that depend on what is trained.

    Args:
        jaxpr: of the loss alone.
        trained: for each of its inputs, whether the gradient by it is wanted.
    """
    return _needed(jaxpr, trained)[0]


def _needed(jaxpr: Any, trained: Sequence[bool]) -> tuple[flops.Flops, list[bool]]:
    """Count FLOPs, and tell which results depend on what is trained, given which inputs do."""
    depending = dict(zip(jaxpr.invars, trained, strict=True))
    counts = []
    for equation in flops.used_equations(jaxpr):
        needed, outputs = _needed_of_equation(equation, [_depends(atom, depending) for atom in equation.invars])
        depending.update(zip(equation.outvars, outputs, strict=True))
        counts.append(needed)
    return flops.total(counts), [_depends(atom, depending) for atom in jaxpr.outvars]


def _needed_of_equation(equation: Any, inputs: list[bool]) -> tuple[flops.Flops, list[bool]]:
    name, params = equation.primitive.name, equation.params
    outputs = [any(inputs) and name != "stop_gradient"] * len(equation.outvars)
    if name == "pallas_call":  # attention: both operands of its products do, or none
        return flops.times(1 + 2 * any(inputs), flops.of_kernel(equation)), outputs
    if name in flops.OWN:
        return flops.times(1 + sum(inputs), flops.OWN[name](equation)), outputs
    inner = flops.inner_programs(params)
    if not inner:
        return flops.Flops(0.0, 0.0), outputs
    if name == "scan":
        inputs = _carried_around(inner[0], inputs, params["num_consts"], params["num_carry"])
    if name == "cond":
        needed, ways = zip(*(_needed(jaxpr, inputs[1:]) for jaxpr in inner), strict=True)
        return max(needed, key=sum), [any(way) for way in zip(*ways, strict=True)]
    needed, outputs = _needed(inner[0], inputs)
    return flops.times(flops.repetitions(name, params), needed), outputs


def _carried_around(body: Any, inputs: list[bool], constants: int, carried: int) -> list[bool]:
    """Tell which inputs of a loop's body depend on what is trained, in some round."""
    while True:
        _, outputs = _needed(body, inputs)
        carry = slice(constants, constants + carried)
        later = [a or b for a, b in zip(inputs[carry], outputs[:carried], strict=True)]
        if later == inputs[carry]:
            return inputs
        inputs = [*inputs[:constants], *later, *inputs[constants + carried :]]


def _depends(atom: Any, depending: dict[Any, bool]) -> bool:
    return not isinstance(atom, Literal) and depending.get(atom, False)
