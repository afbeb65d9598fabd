"""Adapt without LPIPS: DISTS, squared error and VSD are left."""

from dataclasses import replace

from configs.ablations import adapt
from configs.tiny.shapes import PERCEPTUAL
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(perceptual=replace(PERCEPTUAL, lpips_weight=0.0, dists_weight=3.0))
