"""Adapt with self-attention and cross-attention in the new level too, over the whole image."""

from configs.ablations import adapt
from configs.tiny.shapes import PRIOR
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK
from tvt_jax.stages.student import add_level
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return adapt.config(student=add_level(PRIOR, CROSS_ATTENTION_BLOCK))
