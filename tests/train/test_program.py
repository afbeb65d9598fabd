from pathlib import Path

import jax
import pytest
from jax.extend.core import jaxprs_in_params

from proofs import micro
from tvt_jax.data.pipeline import batch_shapes
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh


def operands(jaxpr):
    """How many each operation takes; calls of other programs apart, whose operations count."""
    for equation in jaxpr.eqns:
        inner = [getattr(called, "jaxpr", called) for called in jaxprs_in_params(equation.params)]
        yield from (count for called in inner for count in operands(called))
        if not inner:
            yield len(equation.invars)


@pytest.mark.parametrize("stage", ["decoder", "prior", "adapt"])
def test_no_operation_takes_all_arrays(stage):
    """XLA takes minutes to compile one for the two thousand arrays of the tiny adapt stage."""
    config = micro.micro_config(stage, Path("nowhere"))
    program = Program(config, make_mesh(1, 1), config.stage.abstract())
    traced = program.trace_step(program.abstract_batch(batch_shapes(config.data)))
    assert max(operands(traced.jaxpr.jaxpr)) < 20 < len(jax.tree.leaves(program.state)) / 5
