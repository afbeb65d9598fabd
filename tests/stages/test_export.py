"""What a stage hands on: evaluations for the log, and a model that does what was trained."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import tvt_jax
from proofs import micro
from tests.stages import small
from tests.stages.small import marked
from tvt_jax.diffusion import restore_latent
from tvt_jax.evaluation import evaluate
from tvt_jax.evaluation.follow import follow
from tvt_jax.evaluation.scores import read_evaluation
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.stages.images import enlarge, shrink

SCORES = {"psnr-rgb", "lpips-alex", "dists"}


@pytest.fixture(scope="module")
def batch():
    generator = np.random.default_rng(0)
    sizes = {"hr": micro.CROP, "lr": micro.CROP // 4}
    return {name: generator.integers(0, 256, (2, side, side, 3), np.uint8) for name, side in sizes.items()}


@pytest.mark.parametrize("name", marked(micro.NEEDS))
def test_evaluations_fit_the_log(chain, batch, name):
    state = chain.run(name).end
    stage = micro.stage(name, chain.root / "runs")
    metrics, images = jax.eval_shape(stage.evaluate, state, stage.load(), batch)
    expected = {"prior": {"noise_error", "latent_deviation"}, "encoder": {*SCORES, "latent_distance"}}
    assert set(metrics) == set(stage.evaluated) == expected.get(name, SCORES)
    assert {metric.shape for metric in metrics.values()} <= {(), (2,)}
    assert {image.shape for image in images.values()} == {(2, micro.CROP, micro.CROP, 3)}


@pytest.mark.parametrize(("geometry", "side"), [("upsample", micro.CROP), ("downsample", micro.CROP // 2)])
def test_geometries_of_the_decoder_stage(chain, geometry, side):
    state = chain.run("decoder").end
    stage = replace(micro.stage("decoder", chain.root / "runs"), geometry=geometry)
    image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, micro.CROP, micro.CROP, 3)), jnp.float32)
    result = jax.jit(stage.reconstruct)(state.ema, stage.load(), image, None)
    assert result.image.shape == (1, side, side, 3)
    np.testing.assert_allclose(result.target, image if side == micro.CROP else shrink(image, 2), atol=1e-6)


@pytest.mark.parametrize("latent", ["mean", "sample"])
def test_the_decoder_stage_trains_on_samples_or_on_means(latent):
    stage = DecoderStage(source="", source_vae=micro.VAE_D8, vae=micro.VAE_D4, optimizer=micro.OPTIMIZER, latent=latent)
    vae, frozen = small.random_vae(micro.VAE_D4, 0), {"source": small.random_vae(micro.VAE_D8, 1)}
    image = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)), jnp.float32)
    reconstruct = jax.jit(lambda rng: stage.reconstruct(vae, frozen, image, rng).image)
    one, other = map(reconstruct, jax.random.split(jax.random.key(0)))
    assert np.array_equal(one, other) == (latent == "mean")


@pytest.mark.slow
def test_the_exported_model_restores_as_the_stage_does(chain):
    """LoRA fused, by the model's networks, which see no frame; float32 sums in another order."""
    run, stage = chain.run("adapt"), micro.stage("adapt", chain.root / "runs")
    degraded = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8))
    expected, _ = jax.jit(stage.restore)(run.end.ema, stage.load(), {"lr": degraded})
    model = tvt_jax.load(run.workdir / "model")
    latent = model.vae.to_latent(np.asarray(enlarge(from_uint8(degraded), 4)))
    restored = model.vae.to_image(restore_latent(latent, model.unet, model.card.time_step))
    restored = np.clip(restored, -1, 1)
    np.testing.assert_allclose(restored, np.clip(expected, -1, 1), atol=1e-4)
    assert model.card.time_step == stage.time_step
    assert model.upscale(np.asarray(degraded[0])).shape == (64, 64, 3)


@pytest.mark.slow
def test_a_run_that_is_followed_scores_as_its_model(chain, monkeypatch, tmp_path):
    workdir = chain.run("adapt").workdir
    monkeypatch.setenv("MICRO_STAGE", "adapt")
    monkeypatch.setenv("MICRO_ROOT", str(chain.root))
    options: dict = {"lr": tmp_path / "lr", "hr": tmp_path / "hr", "metrics": "psnr-y"}
    for name, side in (("lr", 16), ("hr", 64)):
        options[name].mkdir()
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(options[name] / "a.png")
    assert follow(workdir, Path(micro.__file__), [], out=tmp_path, patience=60.0, **options) == 0
    assert evaluate.run(model=workdir / "model", sr=None, save=None, out=tmp_path / "model.json", **options) == 0
    followed, model = (read_evaluation(tmp_path / f"{name}.json") for name in (micro.STEPS, "model"))
    assert followed == model
