"""Images of several sizes from one batch: cut, run, joined."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proofs import micro
from tests.stages import small
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.stages.distillation import Distillation
from tvt_jax.stages.pieces import in_pieces
from tvt_jax.stages.prior import fixed_prompts


def test_each_piece_is_an_image_of_its_own_and_lies_where_it_was():
    images = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    seen = []

    def run(cut):
        seen.append(cut.shape)
        enlarged = jnp.repeat(jnp.repeat(cut, 2, 1), 2, 2)
        return {"enlarged": enlarged, "mean": jnp.broadcast_to(cut.mean((1, 2), keepdims=True), cut.shape)}

    result = in_pieces(run, (1, 4), jnp.asarray(images))
    assert seen == [(1, 8, 12, 3), (16, 2, 3, 3)]
    np.testing.assert_array_equal(result["enlarged"], images.repeat(2, 1).repeat(2, 2))
    means = images[1].reshape(4, 2, 4, 3, 3).mean((1, 3))
    np.testing.assert_allclose(result["mean"][0], np.broadcast_to(images[0].mean((0, 1)), (8, 12, 3)), atol=1e-6)
    np.testing.assert_allclose(result["mean"][1], means.repeat(2, 0).repeat(3, 1), atol=1e-6)


def test_what_lies_beside_the_images_goes_with_their_pieces():
    images = jnp.arange(4.0)[:, None, None, None] + jnp.zeros((4, 4, 4, 1))

    def run(cut, beside):
        return cut - jnp.repeat(beside, len(cut) // len(beside))[:, None, None, None]

    for pieces in ((1,), (2,), (1, 2), (2, 1, 4, 1)):
        np.testing.assert_array_equal(in_pieces(run, pieces, images, jnp.arange(4.0)), np.zeros(images.shape))


@pytest.mark.slow
def test_the_student_and_the_decoder_see_pieces():
    """The loss on the pixels of a crop in quarters is that on four crops."""
    whole = replace(
        micro.stage("adapt", Path("nowhere")),
        perceptual=PerceptualLoss(lpips_weight=0.0),
        distillation=Distillation(weight=0.0),
    )
    frozen = {
        "vae": small.random_vae(micro.VAE_D4, 0),
        "prior": small.random_unet(micro.PRIOR, 1),
        **fixed_prompts(micro.PRIOR.cross_attention_dim),
        "perceptual": {},
    }
    state = whole.init(jax.random.key(0), frozen)
    images = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), np.uint8)
    batch = {"hr": images, "lr": images[:, ::4, ::4]}
    quarters = {
        name: np.concatenate([q for h in np.split(x, 2, 1) for q in np.split(h, 2, 2)]) for name, x in batch.items()
    }
    losses = [
        float(jax.jit(stage.student_loss)(state.params["student"], None, frozen, images, jax.random.key(2))[0])
        for stage, images in ((replace(whole, pieces=(2,)), batch), (whole, quarters), (whole, batch))
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    assert abs(losses[2] / losses[1] - 1) > 1e-4
    assert replace(whole, pieces=(2,)).multiple == 2 * whole.multiple


def test_a_batch_that_the_pieces_do_not_part():
    with pytest.raises(ValueError, match=r"data.batch: 3 images .* \(1, 2\)"):
        in_pieces(lambda cut: cut, (1, 2), jnp.zeros((3, 8, 8, 3)))
