"""What does not fit together is told at once, and by the names on the command line."""

from dataclasses import replace
from pathlib import Path

import pytest

from proofs import micro
from tvt_jax.models.lora import LoRAConfig
from tvt_jax.stages.distillation import Distillation
from tvt_jax.train.config import load_config

CONFIG = str(Path(micro.__file__))


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        ("prior", "data.degradation=None", "--config.data.degradation=None gives no low-resolution crops"),
        ("adapt", "data.degradation=None", "--config.data.degradation=None gives no low-resolution crops"),
        ("adapt", "data.crop=36", "--config.data.crop=36 must be a multiple of 8 for these networks, such as 32"),
        ("vae", "data.crop=30", "--config.data.crop=30 must be a multiple of 4 for these networks, such as 32"),
        ("adapt", "data.scale=2", "--config.data.scale=2 must be the same as everywhere else, 4"),
        ("adapt", "stage.prior.cross_attention_dim=9", "--config.stage.prior.cross_attention_dim=9, student."),
        ("adapt", "stage.vae.latent_channels=8", "--config.stage.vae.latent_channels=8, prior.latent_channels=4, stud"),
        ("decoder", "stage.vae.latent_channels=8", "--config.stage.vae.latent_channels=8, source_vae.latent_channels="),
        ("encoder", "stage.source_vae.block_out_channels=(8,8)", "give it one level more than the other"),
        ("prior", "stage.vae.latent_channels=8", "--config.stage.vae.latent_channels=8, unet.latent_channels=4 must"),
        ("adapt", "stage.lora.rank=0", "--config.stage.lora.rank=0 must be at least 1"),
        ("adapt", "stage.distillation.drawn=5", "--config.stage.distillation.drawn=5 must be from 1 to patches², whi"),
        (
            "adapt",
            "stage.distillation.times=(9,9)",
            "--config.stage.distillation.times=(9, 9) must increase, from 0 to",
        ),
        (
            "adapt",
            "stage.whole=('conv_in',)",
            "--config.stage.whole=('conv_in',) is for a student of the prior's shape",
        ),
        ("vae", "stage.accumulation=0", "--config.stage.accumulation=0 must be at least 1"),
        ("vae", "stage.optimizer.learning_rate=0", "--config.stage.optimizer.learning_rate=0.0 must be positive"),
        ("vae", "stage.ema_decay=1.5", "--config.stage.ema_decay=1.5 must be in [0, 1)"),
        ("vae", "stage.compute.remat=all", "--config.stage.compute.remat: 'all' is not one of none, products, blocks"),
        ("adapt", "stage.trained=some", "--config.stage.trained: 'some' is not one of lora, all"),
        ("adapt", "best=lpips", "--config.best='lpips' needs evaluation images"),
    ],
)
def test_a_change_that_does_not_fit(monkeypatch, stage, change, message):
    monkeypatch.setenv("MICRO_STAGE", stage)
    monkeypatch.setenv("MICRO_ROOT", "nowhere")
    with pytest.raises(ValueError) as error:
        load_config(CONFIG, [f"--config.{change}"])
    assert message in str(error.value)


def test_the_best_is_chosen_among_what_is_evaluated():
    config = micro.micro_config("adapt", Path("nowhere"))
    with pytest.raises(ValueError, match=r"best='psnr' is not among what is evaluated: psnr-rgb, lpips-alex, dists"):
        replace(config, evaluation=config.data, best="psnr")


def test_the_evaluation_must_fit_too():
    config = micro.micro_config("vae", Path("nowhere"))
    with pytest.raises(ValueError, match=r"evaluation\.crop=33 must be a multiple of 4"):
        replace(config, evaluation=replace(config.data, crop=33))


def test_sizes_that_are_no_sizes():
    with pytest.raises(ValueError, match="rank=0 must be at least 1"):
        LoRAConfig(rank=0)
    with pytest.raises(ValueError, match="patches=0 must be at least 1"):
        Distillation(patches=0)
