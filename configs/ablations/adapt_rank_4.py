"""Adapt with LoRA of rank 4 in place of 16, at the same scale."""

from configs.ablations import adapt
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(rank=4, lora_alpha=8.0)
