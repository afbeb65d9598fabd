from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from proofs import micro
from tests.stages import small
from tvt_jax.models.layers import GroupNorm
from tvt_jax.models.shapes import param_shapes
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.compute import Compute
from tvt_jax.train.state import State


def convolutions(jaxpr) -> int:
    """How many convolutions a program has, those of its inner programs among them."""
    inner = [p for equation in jaxpr.eqns for p in jaxprs_in_params(equation.params)]
    own = sum(equation.primitive.name == "conv_general_dilated" for equation in jaxpr.eqns)
    return own + sum(map(convolutions, inner))


@pytest.mark.parametrize("remat", ["products", "blocks"])
def test_rematerialisation_changes_no_gradient(remat):
    params = small.random_unet(micro.PRIOR, 0)
    latent, text = (jnp.asarray(np.random.default_rng(i).normal(size=n), jnp.float32) for i, n in enumerate(SHAPES))

    def gradient(compute):
        def loss(latent):
            return jnp.square(compute.unet(micro.PRIOR).apply({"params": params}, latent, jnp.ones(1, int), text)).sum()

        return jax.grad(loss)

    plain, saving = gradient(Compute()), gradient(Compute(remat=remat))
    expected = jax.jit(plain)(latent)
    # The same sums; only how XLA fuses them may differ.
    np.testing.assert_allclose(jax.jit(saving)(latent), expected, atol=1e-5 * jnp.abs(expected).max())
    kept, again = (convolutions(jax.make_jaxpr(f)(latent).jaxpr) for f in (plain, saving))
    assert (again > kept) == (remat == "blocks")


SHAPES = (1, 8, 8, 4), (1, 2, 8)


def test_norms_leave_out_the_margin():
    """Each image's own, of each group, against numpy in float64; what is loud at the border changes nothing inside."""
    x = np.random.default_rng(0).normal(2, 3, (2, 16, 24, 4)).astype(np.float32)
    norm = GroupNorm(2)
    params = {"params": {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}}
    with Compute(norm_margin=1 / 8).norms():
        result = norm.apply(params, jnp.asarray(x))
        loud = norm.apply(params, jnp.asarray(x).at[:, 0].set(1000.0))
        np.testing.assert_array_equal(loud[:, 1:], result[:, 1:])
    inside = x[:, 2:-2, 3:-3].astype(np.float64).reshape(2, 12, 18, 2, 2)
    mean, deviation = (f((1, 2, 4))[:, None, None].repeat(2, -1) for f in (inside.mean, inside.std))
    np.testing.assert_allclose(result, (x - mean) / deviation, atol=1e-5)
    with Compute().norms():
        assert np.abs(norm.apply(params, jnp.asarray(x)) - result).max() > 0.01


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_the_smallest_maps_keep_their_middle(side):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, side, side, 4)), jnp.float32)
    params = {"params": {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}}
    with Compute(norm_margin=1 / 16).norms():
        assert jnp.isfinite(GroupNorm(2).apply(params, x)).all()


@pytest.mark.parametrize("margin", [-0.1, 0.5, float("nan")])
def test_a_margin_that_leaves_nothing_is_refused(margin):
    with pytest.raises(ValueError, match=rf"norm_margin={margin} must be from 0 to less than .5"):
        Compute(norm_margin=margin)


def test_evaluation_leaves_the_margin_out_as_training_does():
    stage = replace(micro.stage("vae", Path()), vae=micro.VAE_D4, compute=Compute(norm_margin=1 / 16))
    frozen, vae = {"perceptual": stage.perceptual.load()}, small.random_vae(micro.VAE_D4, 0)
    state = State(step=jnp.int32(0), params={}, opt_state={}, ema=vae)
    batch = {"hr": jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8))}
    with stage.compute.norms():
        expected = stage.reconstruct(vae, frozen, from_uint8(batch["hr"]), None).image
    np.testing.assert_array_equal(stage.evaluate(state, frozen, batch)[1]["reconstruction"], expected)
    assert np.abs(stage.reconstruct(vae, frozen, from_uint8(batch["hr"]), None).image - expected).max() > 1e-3


def test_frozen_kernels_are_held_in_the_computations_dtype():
    params = {"kernel": np.ones((3, 4), np.float32), "bias": np.ones(4, np.float32)}
    held = Compute(dtype="bfloat16").hold(params)
    assert (held["kernel"].dtype, held["bias"].dtype) == (jnp.bfloat16, np.float32)
    assert Compute().hold(params) is params


def test_networks_of_losses_are_held_as_they_are():
    stage = replace(micro.stage("adapt", Path()), compute=Compute(dtype="bfloat16"))
    kernel = {"kernel": np.ones((3, 4), np.float32)}
    held = stage.hold({"vae": kernel, "perceptual": kernel})
    assert (held["vae"]["kernel"].dtype, held["perceptual"]["kernel"].dtype) == (jnp.bfloat16, np.float32)


def test_shapes_are_held_alike():
    arrays = {"vae": small.random_vae(micro.VAE_D4, 0)}
    compute = Compute(dtype="bfloat16")
    shapes = compute.hold({"vae": param_shapes(micro.VAE_D4)})
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), compute.hold(arrays)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
