"""The decoder stage without a discriminator."""

from configs.ablations import decoder
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return decoder.config(adversarial_weight=0.0)
