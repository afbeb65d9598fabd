"""What a restoration takes of a chip, of small networks on the devices that are here."""

import jax
import pytest

from benchmarks import planned
from benchmarks.cost import costs
from benchmarks.planned import Options, plan, row
from proofs import micro
from tvt_jax.model_folder import ModelCard


def test_a_plan_counts_what_the_networks_cost(monkeypatch):
    monkeypatch.setattr(planned, "METHODS", {"tvt": (micro.VAE_D4, micro.PRIOR, ModelCard())})
    options = Options(topology="local", side=32, quick=True)
    found = plan("tvt", options, jax.devices())
    expected = costs({"4x": micro.VAE_D4}, {"4x": micro.PRIOR}, 32)
    assert found.fits and found.peak > found.arguments > 0
    # FLOPs are two a multiply-add; the networks are all that multiplies.
    assert found.flops == pytest.approx(2 * sum(sum(x.products.values()) for x in expected.values()), rel=0.01)
    assert row("tvt", found)[0] == "tvt" and row("tvt", found)[-1] == ""
