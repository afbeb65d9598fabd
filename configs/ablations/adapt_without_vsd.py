"""Adapt without distillation, and without the fake score that it needs."""

from configs.ablations import adapt
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(vsd_weight=0.0)
