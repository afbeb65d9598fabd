"""All of the student is trained, not LoRA and the new level: what LoRA costs where there is little to protect."""

from configs.ablations import adapt
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(trained="all")
