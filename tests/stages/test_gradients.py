"""What a step does with its losses, against the losses written out."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from proofs import micro
from tests.stages import small
from tvt_jax.colour import wavelet
from tvt_jax.losses.adversarial import discriminator_loss, generator_loss
from tvt_jax.losses.kl import kl_divergence
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.models.discriminator import PatchDiscriminator
from tvt_jax.models.dists import DISTS, load_dists
from tvt_jax.models.perceptual import LPIPS, load_lpips
from tvt_jax.models.shapes import param_shapes
from tvt_jax.models.vae import AutoencoderKL
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.compute import Compute
from tvt_jax.stages.distillation import Distillation
from tvt_jax.stages.encoder import EncoderStage
from tvt_jax.stages.images import enlarge
from tvt_jax.stages.prior import PriorStage, fixed_prompts

# Perceptual distances enter as a number beside the others and would only be slow.
UNSEEN = PerceptualLoss(lpips_weight=0.0)

pytestmark = pytest.mark.usefixtures("cache")


def moments(state, group):
    """Adam's first moment, by path: after one step a tenth of the gradient."""
    return flatten_dict(optax.tree_utils.tree_get(state.opt_state[group], "mu"))


def assert_close(ours, expected):
    """Relative to the largest entry, as small gradients are differences of large ones."""
    scale = max(float(jnp.abs(leaf).max()) for leaf in expected.values())
    for path, leaf in expected.items():
        np.testing.assert_allclose(ours[path], leaf, rtol=1e-3, atol=1e-5 * scale, err_msg=str(path))


def batch_of(count, side=32):
    generator = np.random.default_rng(0)
    sizes = {"hr": side, "lr": side // 4}
    return {name: jnp.asarray(generator.integers(0, 256, (count, n, n, 3), np.uint8)) for name, n in sizes.items()}


@pytest.fixture(scope="module")
def vae():
    return small.random_vae(micro.VAE_D4, 0)


@pytest.fixture(scope="module")
def frozen(vae):
    return {"vae": vae, "perceptual": {}}


@pytest.fixture(scope="module")
def stage():
    """The encoder stage has all the other losses, and its adaptive weight is taken at a layer that is frozen."""
    changes = {"source": "", "source_vae": micro.VAE_D8, "optimizer": micro.OPTIMIZER, "kl_weight": 0.1}
    gan = micro.GAN | {"adversarial_start": 0, "perceptual": UNSEEN}
    return EncoderStage(vae=micro.VAE_D4, **changes, **gan)


def test_the_vae_losses_meet_at_the_image(stage, vae, frozen):
    state = jax.jit(stage.init)(jax.random.key(1), frozen)
    batch, rng = batch_of(2), jax.random.key(2)
    after, metrics = jax.jit(stage.step)(state, frozen, batch, rng)
    image = from_uint8(batch["hr"])

    def reconstruct(params):
        model = AutoencoderKL(micro.VAE_D4)
        posterior = model.apply({"params": params}, image, method="encode")
        return model.apply({"params": params}, posterior.sample(rng), method="decode"), posterior

    def score(discriminator, image):
        return PatchDiscriminator(stage.discriminator).apply({"params": discriminator}, image)

    def nll(params):
        return jnp.abs(reconstruct(params)[0] - image).sum() / 2

    def adversarial(params):
        return generator_loss(score(state.params["discriminator"], reconstruct(params)[0]))

    @jax.jit
    def expected():
        whole = {**vae, **state.params["vae"]}
        of_nll, of_adversarial = jax.grad(nll)(whole), jax.grad(adversarial)(whole)
        last = [jnp.linalg.norm(tree["decoder"]["conv_out"]["kernel"]) for tree in (of_nll, of_adversarial)]
        weight = 0.5 * jnp.clip(last[0] / (last[1] + 1e-4), 0, 1e4)
        of_kl = jax.grad(lambda params: kl_divergence(reconstruct(params)[1]))(whole)
        total = jax.tree.map(lambda a, b, c: a + weight * b + 0.1 * c, of_nll, of_adversarial, of_kl)
        fake = reconstruct(whole)[0]
        of_discriminator = jax.grad(lambda d: discriminator_loss(score(d, image), score(d, fake)))
        return {name: total[name] for name in stage.trained}, of_discriminator(state.params["discriminator"]), weight

    of_vae, of_discriminator, weight = expected()
    assert_close(moments(after, "vae"), flatten_dict(jax.tree.map(lambda g: 0.1 * g, of_vae)))
    assert_close(moments(after, "discriminator"), flatten_dict(jax.tree.map(lambda g: 0.1 * g, of_discriminator)))
    np.testing.assert_allclose(metrics["adversarial_weight"], weight, rtol=1e-4)
    np.testing.assert_allclose(metrics["reconstruction"], nll(vae) / image[0].size, rtol=1e-5)


def test_before_its_start_the_gan_changes_nothing(stage, frozen):
    waiting, without = replace(stage, adversarial_start=1), replace(stage, adversarial_weight=0.0)
    state = jax.jit(stage.init)(jax.random.key(1), frozen)
    after = [jax.jit(s.step)(state, frozen, batch_of(2), jax.random.key(2))[0] for s in (waiting, without)]
    assert_close(moments(after[0], "vae"), moments(after[1], "vae"))
    for one in after:
        jax.tree.map(np.testing.assert_array_equal, one.params["discriminator"], state.params["discriminator"])


def test_the_prior_in_two_parts():
    """Its loss is a mean over images, so a whole batch is the mean of its halves, each with its own noise."""
    frozen = {"vae": small.random_vae(micro.VAE_D8, 0), **fixed_prompts(micro.PRIOR.cross_attention_dim)}
    stage = PriorStage(unet=micro.PRIOR, source="", vae=micro.VAE_D8, optimizer=micro.OPTIMIZER)
    state = jax.jit(stage.init)(jax.random.key(1), frozen)
    batch, rng = batch_of(4), jax.random.key(2)
    in_parts, metrics = jax.jit(replace(stage, accumulation=2).step)(state, frozen, batch, rng)
    step = jax.jit(stage.step)
    halves = [
        step(state, frozen, {name: images[i::2] for name, images in batch.items()}, key)
        for i, key in enumerate(jax.random.split(rng, 2))
    ]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *(moments(half, "unet") for half, _ in halves))
    assert_close(moments(in_parts, "unet"), expected)
    np.testing.assert_allclose(metrics["noise_error"], np.mean([m["noise_error"] for _, m in halves]), rtol=1e-5)
    assert halves[0][1]["noise_error"] != halves[1][1]["noise_error"]


@pytest.mark.slow
def test_the_adapt_losses_add_up():
    """All of them, by the student's parameters, against the losses written out on what it delivers."""
    perceptual = PerceptualLoss(lpips_net="alex", lpips_weight=2.0, dists_weight=0.5)
    weights = {"latent_weight": 0.4, "perceptual": perceptual, "distillation": Distillation(weight=0.7)}
    stage = replace(micro.stage("adapt", Path()), trained_color_fix="wavelet", **weights)
    frozen = {
        "vae": small.random_vae(micro.VAE_D4, 0),
        "prior": small.random_unet(micro.PRIOR, 1),
        **fixed_prompts(micro.PRIOR.cross_attention_dim),
        "perceptual": perceptual.load(),
    }
    frozen = jax.tree.map(jnp.asarray, frozen)
    state = jax.jit(stage.init)(jax.random.key(1), frozen)
    # At its start the fake score is the teacher, and VSD a difference of equal numbers.
    generator = np.random.default_rng(3)
    fake = jax.tree.map(lambda leaf: jnp.float32(generator.normal(0, 0.1, leaf.shape)), state.params["fake"])
    state = replace(state, params={**state.params, "fake": fake})
    batch, rng = batch_of(2), jax.random.key(2)
    after, metrics = jax.jit(stage.step)(state, frozen, batch, rng)
    target = from_uint8(batch["hr"])

    def losses(student):
        image, latent = stage.restore(student, frozen, batch)
        image = jax.vmap(wavelet)(image, enlarge(from_uint8(batch["lr"]), 4))
        wanted = AutoencoderKL(micro.VAE_D4).apply({"params": frozen["vae"]}, target, method="encode").mean
        vsd = stage.distillation.loss(
            stage.teacher(frozen, batch), state.params["fake"], latent, jax.random.split(rng)[0]
        )
        return {
            "latent": jnp.abs(latent - wanted).mean(),
            "mse": jnp.square(image - target).mean(),
            "lpips-alex": LPIPS("alex").apply({"params": load_lpips("alex")}, image, target).mean(),
            "dists": DISTS().apply({"params": load_dists()}, image, target).mean(),
            "vsd": vsd,
        }

    def total(student):
        weighted = {"latent": 0.4, "mse": 1.0, "lpips-alex": 2.0, "dists": 0.5, "vsd": 0.7}
        return sum(weighted[name] * loss for name, loss in losses(student).items())

    expected = jax.jit(losses)(state.params["student"])
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    gradient = jax.jit(jax.grad(total))(state.params["student"])
    assert_close(moments(after, "student"), flatten_dict(jax.tree.map(lambda g: 0.1 * g, gradient)))
    # The new parameters', so that a step that breaks them is noticed; 1e-6 tells them from the old ones.
    norms = [float(optax.tree.norm(s.params["student"])) for s in (state, after)]
    assert float(metrics["parameter_norm/student"]) == pytest.approx(norms[1], rel=1e-6)
    assert norms[0] != pytest.approx(norms[1], rel=1e-5)


def test_latents_alone_are_compared_without_decoding(monkeypatch):
    weights = {"latent_weight": 1.0, "mse_weight": 0.0, "distillation": Distillation(weight=0.0)}
    stage = replace(micro.stage("adapt", Path()), perceptual=UNSEEN, **weights)
    prompts = fixed_prompts(micro.PRIOR.cross_attention_dim)
    frozen = {"vae": small.random_vae(micro.VAE_D4, 0), "prior": small.random_unet(micro.PRIOR, 1), **prompts}
    monkeypatch.setattr(AdaptStage, "_decode", None)
    state = jax.eval_shape(stage.init, jax.random.key(1), frozen)
    _, metrics = jax.eval_shape(stage.step, state, frozen, batch_of(2), jax.random.key(2))
    norms = {f"{name}_norm/student" for name in ("gradient", "parameter")}
    assert set(metrics) == {"latent", "loss", "learning_rate", *norms}


@pytest.mark.slow
def test_a_step_in_bfloat16_is_nearly_one_in_float32():
    """bfloat16 has 8 bits: about 0.4 % a rounding, and a few per cent in a gradient through dozens of layers.

    Not VSD, which is at the start a difference of nearly equal predictions.
    """
    prompts = fixed_prompts(micro.PRIOR.cross_attention_dim)
    networks = {"vae": small.random_vae(micro.VAE_D4, 0), "prior": small.random_unet(micro.PRIOR, 1)}
    loaded = {**networks, **prompts, "perceptual": {}}

    def first_step(compute):
        stage = replace(micro.stage("adapt", Path()), perceptual=UNSEEN, compute=compute)
        state = jax.jit(stage.init)(jax.random.key(1), loaded)
        return jax.jit(stage.step)(state, stage.hold(loaded), batch_of(2), jax.random.key(2))

    (plain, expected), (rounded, metrics) = map(first_step, (Compute(), Compute(dtype="bfloat16", remat="blocks")))
    for name in ("mse", "fake", "gradient_norm/student", "gradient_norm/fake"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=0.05, err_msg=name)
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded.params)} == {jnp.dtype(jnp.float32)}
    gradients = [jnp.concatenate([leaf.ravel() for leaf in moments(s, "student").values()]) for s in (plain, rounded)]
    assert jnp.vdot(*gradients) / jnp.prod(jnp.array([jnp.linalg.norm(g) for g in gradients])) > 0.99


@pytest.fixture
def frozen_of_adapt():
    """What the adapt stage loads for latents and pixels, by the VAE and with the student named."""

    def make(vae, **student):
        networks = {"vae": small.random_vae(vae, 0), "prior": small.random_unet(micro.PRIOR, 2)}
        return networks | fixed_prompts(micro.PRIOR.cross_attention_dim) | {"perceptual": {}} | student

    return make


PLAIN = {"perceptual": UNSEEN, "distillation": Distillation(weight=0.0)}


def exported(stage, state, frozen):
    return stage.export(jax.device_get(state), frozen).unet


def test_a_finished_unet_takes_the_priors_place(tmp_path, frozen_of_adapt):
    """At its first step the student is the finished UNet, whatever the prior is."""
    finished = small.random_unet(micro.STUDENT, 1)
    frozen = frozen_of_adapt(micro.VAE_D4, student=finished)
    stage = replace(micro.stage("adapt", tmp_path), student_source="finished", **PLAIN)
    state = jax.jit(stage.init)(jax.random.key(1), frozen)
    jax.tree.map(np.testing.assert_array_equal, exported(stage, state, frozen), finished)


def test_a_student_of_the_priors_shape_restores_through_the_8x_vae(tmp_path, frozen_of_adapt):
    """It starts as the prior, all its layers carry LoRA, and a step changes the model."""
    frozen = frozen_of_adapt(micro.VAE_D8)
    stage = replace(micro.stage("adapt", tmp_path), vae=micro.VAE_D8, student=micro.PRIOR, **PLAIN)
    state = jax.jit(stage.init)(jax.random.key(1), frozen)
    assert state.params["student"]["whole"] == {}
    assert {"conv_in", "conv_out"} < set(state.params["student"]["lora"])
    jax.tree.map(np.testing.assert_array_equal, exported(stage, state, frozen), frozen["prior"])
    after, metrics = jax.jit(stage.step)(state, frozen, batch_of(2), jax.random.key(2))
    assert metrics["gradient_norm/student"] > 0
    kernels = [exported(stage, s, frozen)["conv_in"]["kernel"] for s in (state, after)]
    assert np.abs(kernels[1] - kernels[0]).max() > 1e-4


def test_all_of_the_student_is_trained_on_demand(tmp_path, frozen_of_adapt):
    """Every parameter gets a gradient, but the biases before a norm, which have none."""
    frozen = frozen_of_adapt(micro.VAE_D4)
    stage = replace(micro.stage("adapt", tmp_path), trained="all", **PLAIN)
    state = jax.jit(stage.init)(jax.random.key(1), frozen)
    assert state.params["student"]["lora"] == {}
    shapes = jax.tree.map(jnp.shape, state.params["student"]["whole"])
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, param_shapes(micro.STUDENT))
    after, _ = jax.jit(stage.step)(state, frozen, batch_of(2), jax.random.key(2))
    untouched = [path for path, leaf in moments(after, "student").items() if not np.any(leaf)]
    assert not [path for path in untouched if path[-1] == "kernel"]
