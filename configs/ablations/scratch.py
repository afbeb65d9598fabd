"""A 4x VAE from nothing, without the transfer, in as many steps as the decoder and the encoder stage together.

python train.py --config=configs/ablations/scratch.py --workdir=runs/tiny/scratch
"""

from dataclasses import replace

from configs.tiny import decoder, encoder
from configs.tiny.shapes import VAE_D4
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Take the decoder stage's settings, without a source."""
    base = decoder.config()
    assert isinstance(base.stage, DecoderStage)
    steps = base.steps + encoder.config().steps
    stage = VAEStage(
        vae=VAE_D4,
        optimizer=replace(base.stage.optimizer, decay_until=steps),
        discriminator=base.stage.discriminator,
        perceptual=base.stage.perceptual,
        adversarial_weight=base.stage.adversarial_weight,
        ema_decay=base.stage.ema_decay,
        compute=base.stage.compute,
    )
    return replace(base, stage=stage, steps=steps)
