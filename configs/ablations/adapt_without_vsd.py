"""Adapt without distillation, and without the fake score that it needs."""

from dataclasses import replace

from configs.ablations import adapt
from configs.tiny.shapes import DISTILLATION
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(distillation=replace(DISTILLATION, weight=0.0))
