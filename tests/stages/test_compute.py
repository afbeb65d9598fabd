from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from proofs import micro
from tests.stages import small
from tvt_jax.model_folder import ModelCard, ModelFolder, write_model
from tvt_jax.stages.compute import Compute, read_source, unet_shapes, vae_shapes


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


def test_frozen_kernels_are_held_in_the_computations_dtype():
    frozen = {"vae": {"kernel": np.ones((3, 4), np.float32), "bias": np.ones(4, np.float32)}}
    frozen["perceptual"] = {"kernel": np.ones((3, 4), np.float32)}
    held = Compute(dtype="bfloat16").hold(frozen)
    assert held["vae"]["kernel"].dtype == jnp.bfloat16
    assert {held["vae"]["bias"].dtype, held["perceptual"]["kernel"].dtype} == {np.dtype(np.float32)}
    assert Compute().hold(frozen) is frozen


def test_shapes_are_held_alike():
    arrays = {"vae": small.random_vae(micro.VAE_D4, 0)}
    compute = Compute(dtype="bfloat16")
    shapes = compute.hold({"vae": vae_shapes(micro.VAE_D4)})
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), compute.hold(arrays)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )


@pytest.fixture
def folder(tmp_path):
    def write(vae, unet):
        write_model(
            tmp_path / "model",
            ModelFolder(card=ModelCard(), vae_config=micro.VAE_D4, vae=vae, unet_config=micro.PRIOR, unet=unet),
        )
        return str(tmp_path / "model")

    return write


def test_what_a_stage_starts_from_is_what_it_expects(folder):
    path = folder(small.random_vae(micro.VAE_D4, 0), small.random_unet(micro.PRIOR, 1))
    read = read_source(path, vae=micro.VAE_D4, unet=micro.PRIOR)
    assert jax.tree.map(np.shape, read.unet) == jax.tree.map(lambda leaf: leaf.shape, unet_shapes(micro.PRIOR))
    with pytest.raises(ValueError, match=r"holds .*, but the stage is configured for"):
        read_source(path, vae=replace(micro.VAE_D4, norm_num_groups=2))


def test_tensors_that_do_not_fit_their_config(folder):
    vae = small.random_vae(micro.VAE_D4, 0)
    vae["decoder"]["conv_in"]["kernel"] = np.zeros((3, 3, 4, 9), np.float32)
    del vae["encoder"]["conv_out"]["bias"]
    path = folder(vae, small.random_unet(micro.PRIOR, 1))
    with pytest.raises(ValueError, match=r"vae: 2 tensors .* decoder/conv_in/kernel \(\(3, 3, 4, 9\) in the file"):
        read_source(path, vae=micro.VAE_D4)
