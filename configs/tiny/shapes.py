"""Shapes of the tiny networks, what they share, and where the stages read from and train on."""

from dataclasses import replace
from typing import Any

from tvt_jax.data.degradation import TVT, Degradation
from tvt_jax.data.pipeline import DataConfig
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.models.discriminator import PatchDiscriminatorConfig
from tvt_jax.models.lora import LoRAConfig
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.compute import Compute
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.stages.distillation import Distillation
from tvt_jax.stages.encoder import EncoderStage
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.stages.student import add_level
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig

RUNS = "runs/tiny"

# A picture of text, of a screen or a drawing for each tile of a photo.
TRAIN = DataConfig(path="data/tiles", mixed=(("data/text", 1.0),), crop=128, batch=8)
HELD_OUT = DataConfig(path="data/photos/held_out", mixed=(("data/text/held_out", 1.0),), crop=128, batch=8, flips=False)

# Milder than the paper's: what a camera and a messenger do to a photo. A small network that is asked to undo heavy
# noise and blur learns to smooth.
CAMERA = Degradation(
    first=replace(
        TVT.first,
        blur_sigma=(0.2, 3.0),
        resize_weights=(0.1, 0.3, 0.6),
        resize_factor=(0.7, 1.2),
        gaussian_sigma=(0.0, 2.0),
        poisson_scale=(0.0, 0.15),
        jpeg_quality=(90, 100),
    ),
    second=replace(
        TVT.second,
        blur_probability=0.4,
        blur_sigma=(0.2, 1.0),
        resize_weights=(0.2, 0.2, 0.6),
        resize_factor=(0.8, 1.1),
        gaussian_sigma=(0.0, 1.5),
        poisson_scale=(0.0, 0.1),
        jpeg_quality=(85, 100),
    ),
    final_sinc_probability=0.25,
)

# Sixteen latent channels, not SD's four: a small network spends four on brightness and has none left for colour.
VAE_D8 = AutoencoderKLConfig(
    block_out_channels=(16, 32, 64, 96), latent_channels=16, layers_per_block=1, norm_num_groups=4, scaling_factor=0.081
)
VAE_D4 = replace(VAE_D8, block_out_channels=(16, 32, 64), mid_block=False)
# Small VAEs make what lies by the border loud and read brightness off it in their norms: 18 dB without.
COMPUTE = Compute(norm_margin=1 / 16)
DISCRIMINATOR = PatchDiscriminatorConfig(features=24, layers=3)

# By AlexNet's LPIPS alone the result was no nearer to the truth in DISTS than bicubic enlargement.
PERCEPTUAL = PerceptualLoss(lpips_net="alex", dists_weight=1.0)

PRIOR = UNet2DConditionConfig(
    block_out_channels=(64, 80, 96),
    down_block_types=(PLAIN_BLOCK, PLAIN_BLOCK, CROSS_ATTENTION_BLOCK),
    layers_per_block=2,
    latent_channels=16,
    attention_heads=(2, 2, 3),
    cross_attention_dim=32,
    norm_num_groups=8,
)
STUDENT = add_level(PRIOR)
DISTILLATION = Distillation(weight=0.01, drawn=1, lora=LoRAConfig(rank=16, alpha=32.0))


def adapt_stage(steps: int, learning_rate: float, **changes: Any) -> AdaptStage:
    """All of the student is trained: LoRA protects a prior worth protecting, and this one has had minutes."""
    settings: dict[str, Any] = {
        "vae_source": f"{RUNS}/vae_whole/model",
        "vae": VAE_D4,
        "prior_source": f"{RUNS}/prior/model",
        "prior": PRIOR,
        "student": STUDENT,
        "trained": "all",
        "optimizer": OptimizerConfig(learning_rate=learning_rate, warmup=50, decay_until=steps, clip=1.0),
        "distillation": DISTILLATION,
        "time_step": 200,
        "color_fix": "wavelet",
        "trained_color_fix": "wavelet",
        "ema_decay": 0.995,
        "compute": COMPUTE,
    }
    return AdaptStage(**settings | changes)


def large_crops(data: DataConfig, batch: int) -> DataConfig:
    """Take few large crops, since a picture has no border for most of its pixels, where convolutions meet zeros."""
    return replace(data, crop=256, batch=batch)


def vae_optimizer(steps: int) -> OptimizerConfig:
    """Use Muon for the kernels: Adam's updates follow brightness and find no colour for thousands of steps."""
    return OptimizerConfig(
        learning_rate=2e-3, kernel_learning_rate=0.02, betas=(0.9, 0.99), warmup=20, decay_until=steps
    )


def vae_settings(steps: int) -> dict[str, Any]:
    """Give what the stages of the VAEs share. Without a GAN: what follows the decoder stage trains it again."""
    return {
        "optimizer": vae_optimizer(steps),
        "discriminator": DISCRIMINATOR,
        "adversarial_weight": 0.0,
        "ema_decay": 0.99,
        "compute": COMPUTE,
    }


def vae_run(stage: VAEStage | DecoderStage | EncoderStage, steps: int) -> TrainConfig:
    """Train a stage of the VAEs for `steps`."""
    return TrainConfig(
        stage=stage,
        data=large_crops(TRAIN, 2),
        evaluation=large_crops(HELD_OUT, 4),
        steps=steps,
        log_every=25,
        evaluate_every=250,
        save_every=125,
    )


def degraded(data: DataConfig) -> DataConfig:
    """Give the images their low-resolution counterparts, a quarter of them clean."""
    return replace(data, degradation=CAMERA, clean=0.25)
