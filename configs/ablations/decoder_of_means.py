"""The decoder stage on the means of E8's posteriors, which evaluation decodes, in place of samples."""

from configs.ablations import decoder
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return decoder.config(latent="mean")
