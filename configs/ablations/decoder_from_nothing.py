"""A 4x encoder and decoder from nothing, in as many steps as the decoder alone has, with the same losses."""

from dataclasses import replace

from configs.ablations import decoder
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    base = decoder.config()
    assert isinstance(base.stage, DecoderStage)
    stage = VAEStage(
        vae=base.stage.vae,
        optimizer=base.stage.optimizer,
        discriminator=base.stage.discriminator,
        perceptual=base.stage.perceptual,
        adversarial_weight=base.stage.adversarial_weight,
        adversarial_start=base.stage.adversarial_start,
        ema_decay=base.stage.ema_decay,
        compute=base.stage.compute,
    )
    return replace(base, stage=stage)
