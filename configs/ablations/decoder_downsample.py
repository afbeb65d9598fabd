"""The decoder stage with the other geometry: the crop itself is encoded, and the target is the crop halved.

The crops are twice as large, so that as many pixels are encoded and decoded; the targets are then other pictures.
"""

from dataclasses import replace

from configs.ablations import decoder
from configs.tiny.shapes import HELD_OUT
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    base = decoder.config(geometry="downsample")
    crop = 2 * base.data.crop
    return replace(
        base, data=replace(base.data, crop=crop), evaluation=replace(HELD_OUT, mixed=(), crop=crop, batch=16)
    )
