"""One-step restoration through the 8x VAE, by a student of the prior's shape: what the transfer is measured against."""

from configs.ablations import adapt
from configs.tiny.shapes import PRIOR, RUNS, VAE_D8
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(vae=VAE_D8, vae_source=f"{RUNS}/vae/model", student=PRIOR)
