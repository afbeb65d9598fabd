"""Latents are compared with the target's, and nothing is decoded: many times as many images in the same time."""

from dataclasses import replace

from configs.ablations import adapt
from configs.tiny.shapes import DISTILLATION, PERCEPTUAL
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(
        latent_weight=1.0,
        mse_weight=0.0,
        perceptual=replace(PERCEPTUAL, lpips_weight=0.0, dists_weight=0.0),
        distillation=replace(DISTILLATION, weight=0.0),
    )
