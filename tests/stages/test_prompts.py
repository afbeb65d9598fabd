"""A prompt for each image in the adapt stage: whose is whose, and runs that go on to the same bits."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from proofs import micro
from tests.stages import small
from tvt_jax.data.prompts import add_part
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.model_folder import ModelCard, ModelFolder, write_model
from tvt_jax.stages.distillation import Distillation, interleaved, repeat
from tvt_jax.stages.prior import fixed_prompts
from tvt_jax.stages.sources import Prompt
from tvt_jax.train import loop

pytestmark = pytest.mark.usefixtures("cache")

WIDTH = micro.PRIOR.cross_attention_dim
TEXTS = ["", "a dog", "snow"]
PROMPTS = np.random.default_rng(5).normal(0, 2, (3, 2, WIDTH)).astype(np.float16)
STAGE = replace(
    micro.stage("adapt", Path()), student=micro.PRIOR, perceptual=PerceptualLoss(lpips_weight=0.0), latent_weight=1.0
)


def test_prompts_are_repeated_for_their_own_images_patches():
    prompts = jnp.asarray(PROMPTS[:2], jnp.float32)
    np.testing.assert_array_equal(repeat(prompts, 6), np.repeat(PROMPTS[:2], 3, axis=0))
    np.testing.assert_array_equal(repeat(prompts[0], 6), np.repeat(PROMPTS[:1], 6, axis=0))
    pairs = interleaved(repeat(prompts, 4), repeat(prompts[0], 4))
    np.testing.assert_array_equal(pairs, PROMPTS[[0, 0, 0, 0, 1, 0, 1, 0]])


@pytest.fixture(scope="module")
def frozen():
    return {
        "vae": small.random_vae(micro.VAE_D4, 0),
        "prior": small.random_unet(micro.PRIOR, 1),
        **fixed_prompts(WIDTH),
        "perceptual": {},
    }


def test_each_image_is_restored_by_its_prompt(frozen):
    generator = np.random.default_rng(0)
    low = jnp.asarray(generator.integers(0, 256, (2, 8, 8, 3), np.uint8))
    student = jax.jit(STAGE.init)(jax.random.key(0), frozen).params["student"]
    restore = jax.jit(STAGE.restore)
    _, together = restore(student, frozen, {"lr": low, "prompt": jnp.asarray(PROMPTS[1:])})
    for i in range(2):
        _, alone = restore(student, frozen | {"prompt": Prompt(jnp.float32(PROMPTS[1 + i]))}, {"lr": low[i : i + 1]})
        np.testing.assert_allclose(together[i], alone[0], rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - restore(student, frozen, {"lr": low})[1][0]).max() > 1e-4


def test_the_teacher_and_the_fake_score_see_each_images_prompt(frozen):
    """With one prompt for both images the losses are those of a prompt of all."""
    loss, latent = Distillation(), jnp.asarray(np.random.default_rng(1).normal(size=(2, 16, 16, 4)), jnp.float32)
    prompt = jnp.asarray(PROMPTS[1])
    fake = jax.tree.map(lambda leaf: leaf + 0.05, jax.jit(loss.init)(jax.random.key(0), frozen["prior"]))

    @jax.jit
    def losses(fake, frozen, batch):
        teacher = STAGE.teacher(frozen, batch)
        rng = jax.random.key(3)
        return loss.loss(teacher, fake, latent, rng), loss.fake_loss(fake, teacher, latent, rng)

    of_all = losses(fake, frozen | {"prompt": Prompt(jnp.float32(prompt))}, {})
    same, other = (
        losses(fake, frozen, {"prompt": jnp.stack([prompt, second])}) for second in (prompt, jnp.asarray(PROMPTS[2]))
    )
    np.testing.assert_allclose(same, of_all, rtol=1e-5)
    # Random weights make little of a prompt; by the same program the same one gives the same to the bit.
    assert all(a != b for a, b in zip(same, other, strict=True))


@pytest.fixture
def root(tmp_path, frozen):
    """Pictures with texts, encoded, and a model folder to start from."""
    micro.write_images(tmp_path / "images")
    for i, text in enumerate(TEXTS):
        (tmp_path / "images" / f"{i}.txt").write_text(text)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "encoder.json").write_text("{}")
    add_part(tmp_path / "prompts", TEXTS, np.float32(PROMPTS))
    folder = ModelFolder(
        card=ModelCard(),
        vae_config=micro.VAE_D4,
        vae=jax.device_get(frozen["vae"]),
        unet_config=micro.PRIOR,
        unet=jax.device_get(frozen["prior"]),
        prompt_embedding=np.asarray(frozen["prompt"].embedding),
        negative_prompt_embedding=np.asarray(frozen["negative_prompt"].embedding),
    )
    write_model(tmp_path / "start", folder)
    return tmp_path


def config_of(root, **changes):
    config = micro.micro_config("adapt", root)
    data = replace(config.data, prompts=str(root / "prompts"), empty_prompt=0.5, **changes)
    stage = replace(STAGE, vae_source=str(root / "start"), prior_source=str(root / "start"))
    return replace(config, stage=stage, data=data)


@pytest.mark.slow
def test_a_run_with_prompts_goes_on_to_the_same_bits(root):
    config = config_of(root)
    assert loop.train(config, root / "whole") == 0
    saved = Path("checkpoints", str(micro.MIDDLE))
    shutil.copytree(root / "whole" / saved, root / "cut" / saved)
    assert loop.train(config, root / "cut") == 0
    ends = [small.newest_state(config, root / name) for name in ("whole", "cut")]
    jax.tree.map(np.testing.assert_array_equal, *ends)
    # Other prompts would have given other weights.
    assert loop.train(replace(config, data=replace(config.data, empty_prompt=0.0)), root / "never_empty") == 0
    other = small.newest_state(config, root / "never_empty")
    differing = [np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (ends[0].params, other.params)), strict=True)]
    assert any(differing)
    assert json.loads((root / "cut" / "config.json").read_text())["data"]["empty_prompt"] == 0.5


def test_prompts_of_another_width_are_told(root):
    (root / "other").mkdir()
    add_part(root / "other", [""], np.zeros((1, 2, WIDTH + 1), np.float32))
    with pytest.raises(ValueError, match=r"data\.prompts='.*other' are 9 wide, and the UNet reads 8: encode them"):
        config = config_of(root)
        replace(config, data=replace(config.data, prompts=str(root / "other")))


def test_prompts_are_for_the_adapt_stage(tmp_path):
    config = micro.micro_config("vae", tmp_path)
    with pytest.raises(ValueError, match=r"data\.prompts='p' is of no use to this stage: only the adapt stage takes"):
        replace(config, data=replace(config.data, prompts="p"))
