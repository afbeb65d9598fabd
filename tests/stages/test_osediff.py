"""The adapt stage as OSEDiff has it: a student of the prior's shape, and LoRA in the VAE's encoder."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import tvt_jax
from configs.sd21 import osediff
from proofs import micro
from tests.stages import small
from tvt_jax.diffusion import restore_latent
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.model_folder import write_model
from tvt_jax.models.lora import LoRAConfig
from tvt_jax.models.vae import AutoencoderKL
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.distillation import Distillation
from tvt_jax.stages.images import enlarge
from tvt_jax.stages.prior import fixed_prompts

pytestmark = pytest.mark.usefixtures("cache")

STAGE = replace(
    micro.stage("adapt", Path()),
    vae=micro.VAE_D4,
    student=micro.PRIOR,
    whole=("conv_in",),
    encoder_lora=LoRAConfig(rank=2, alpha=3.0),
    perceptual=PerceptualLoss(lpips_weight=0.0),
    distillation=Distillation(weight=0.0),
)


@pytest.fixture(scope="module")
def frozen():
    return {
        "vae": small.random_vae(micro.VAE_D4, 0),
        "prior": small.random_unet(micro.PRIOR, 1),
        **fixed_prompts(micro.PRIOR.cross_attention_dim),
        "perceptual": {},
    }


@pytest.fixture(scope="module")
def student(frozen):
    """Away from its start, where LoRA is nothing."""
    shapes = jax.eval_shape(STAGE.init, jax.random.key(0), frozen).params["student"]
    generator = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: jnp.float32(generator.normal(0, 0.1, leaf.shape)), shapes)


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    sizes = {"hr": 32, "lr": 8}
    return {name: jnp.asarray(generator.integers(0, 256, (1, n, n, 3), np.uint8)) for name, n in sizes.items()}


def test_the_encoder_and_conv_in_are_trained_and_nothing_of_the_decoder(student):
    assert set(student["whole"]) == {"conv_in"} and "conv_in" not in student["lora"]
    kernels = {path[:-1] for path in flatten_dict(small.random_vae(micro.VAE_D4, 0)) if path[-1] == "kernel"}
    adapted = {path[:-1] for path in flatten_dict(student["encoder_lora"])}
    assert adapted == {path for path in kernels if path[0] in ("encoder", "quant_conv")}


def test_every_part_of_the_encoders_lora_gets_a_gradient(student, frozen, batch):
    def loss(student):
        return STAGE.student_loss(student, None, frozen, batch, jax.random.key(0))[0]

    for path, gradient in flatten_dict(jax.jit(jax.grad(loss))(student)["encoder_lora"]).items():
        assert np.abs(gradient).max() > 0, path


def test_the_target_is_encoded_without_lora(student, frozen, batch):
    """The loss on latents: against the frozen encoder's of the target."""
    stage = replace(STAGE, latent_weight=1.0, mse_weight=0.0)
    loss, (_, latent) = jax.jit(stage.student_loss)(student, None, frozen, batch, jax.random.key(0))
    vae = AutoencoderKL(micro.VAE_D4)
    wanted = vae.apply({"params": frozen["vae"]}, from_uint8(batch["hr"]), method="to_latent")
    np.testing.assert_allclose(loss, jnp.abs(latent - wanted).mean(), rtol=1e-5)


def test_the_exported_model_restores_as_the_stage_does(student, frozen, batch, tmp_path):
    """Both networks' LoRA fused; float32 sums in another order."""
    shapes = jax.eval_shape(STAGE.init, jax.random.key(0), frozen)
    write_model(tmp_path / "model", STAGE.export(replace(shapes, ema=student), frozen))
    expected, _ = jax.jit(STAGE.restore)(student, frozen, batch)
    model = tvt_jax.load(tmp_path / "model")
    latent = model.vae.to_latent(np.asarray(enlarge(from_uint8(batch["lr"]), 4)))
    restored = model.vae.to_image(restore_latent(latent, model.unet, *model.card.step))
    np.testing.assert_allclose(np.clip(restored, -1, 1), expected, atol=1e-4)


def test_at_full_size_as_many_numbers_as_published_are_trained():
    """4,055,712 of the UNet's LoRA, less that of conv_in, which is trained whole here; 369,356 of the encoder's."""
    stage = osediff.config().stage
    student = jax.eval_shape(stage.init, jax.random.key(0), stage.abstract()).params["student"]
    count = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in student.items()}
    conv_in = 4 * 4 * 9 + 4 * 320
    assert count == {"whole": 320 * (4 * 9 + 1), "lora": 4_055_712 - conv_in, "encoder_lora": 369_356}
