"""The stage of a whole VAE: where it starts."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from proofs import micro
from tests.stages.small import random_vae
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.model_folder import ModelCard, ModelFolder, write_model
from tvt_jax.stages.vae import VAEStage

SMALL = micro.VAE_D4
LARGER = micro.VAE_D8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(
        tmp_path / "model", ModelFolder(card=ModelCard(source="a test"), vae_config=SMALL, vae=random_vae(SMALL, 0))
    )
    return tmp_path / "model"


def test_goes_on_from_a_vae_that_is_there(folder: Path):
    stage = VAEStage(vae=SMALL, source=str(folder), adversarial_weight=0.0)
    frozen = stage.load()
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree) for tree in (frozen, stage.abstract())]
    assert shapes[0] == shapes[1]
    jax.tree.map(
        np.testing.assert_array_equal, stage.init(jax.random.key(0), frozen).params["vae"], random_vae(SMALL, 0)
    )


def test_a_vae_of_another_shape_is_refused(folder: Path):
    with pytest.raises(ValueError, match=str(folder)):
        VAEStage(vae=LARGER, source=str(folder)).load()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


def gradients_of(stage: VAEStage, images: np.ndarray):
    """Without the noise of a sample, which would be another for images of another shape."""
    vae = random_vae(SMALL, 0)
    bias = np.asarray(vae["quant_conv"]["bias"]).copy()
    bias[SMALL.latent_channels :] = -60.0
    vae["quant_conv"]["bias"] = bias
    state = replace(stage, source="there").init(jax.random.key(0), {"perceptual": {}, "start": vae})
    step = jax.jit(stage.gradients)
    return step(state, {"perceptual": {}}, {"hr": images}, jax.random.key(1))[0]["vae"]


def test_the_vae_sees_pieces_as_images_of_their_own(pixels):
    """The first image whole, the second in quarters: the same gradient as of these five images, each its pixels."""
    plain = PerceptualLoss(lpips_weight=0.0)
    stage = VAEStage(vae=SMALL, adversarial_weight=0.0, perceptual=plain, kl_weight=0.0, pieces=(1, 2))
    alone = replace(stage, pieces=(1,))
    quarters = np.stack([pixels[1, i : i + 8, j : j + 8] for i in (0, 8) for j in (0, 8)])
    expected = jax.tree.map(
        lambda whole, parts: (whole + 4 * parts) / 2, gradients_of(alone, pixels[:1]), gradients_of(alone, quarters)
    )
    # Sums of a thousand float32 products, in another order.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * np.abs(b).max()),
        gradients_of(stage, pixels),
        expected,
    )
    assert stage.multiple == 2 * alone.multiple
