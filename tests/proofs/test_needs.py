"""A step's FLOPs against what its losses need, on small networks."""

from pathlib import Path

import jax
import pytest

from proofs import needs
from proofs.micro import micro_config


def test_a_step_multiplies_what_it_needs_and_what_it_computes_again(tmp_path: Path):
    figures = needs.measure(micro_config("adapt", tmp_path), jax.devices()[:1])
    flops = {name: sum(both) for name, both in figures["flops"].items()}
    # With eight channels the padding of convolutions counts more than at full size, where it is .03 %.
    assert flops["none"] == pytest.approx(flops["needed"], rel=0.02)
    assert flops["none"] <= flops["products"] < flops["blocks"]
    held = figures["weights"]
    assert held["trained"] < held["held"] < held["three UNets"]
    assert "| needed |" in needs.table(figures)


def test_other_stages_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="of a DecoderStage"):
        needs.measure(micro_config("decoder", tmp_path), jax.devices()[:1])
