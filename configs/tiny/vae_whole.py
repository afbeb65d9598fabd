"""Stage 2, last part: encoder and decoder of the 4x VAE together.

python train.py --config=configs/tiny/vae_whole.py --workdir=runs/tiny/vae_whole
"""

from dataclasses import replace

from configs.tiny.shapes import (
    COMPUTE,
    DISCRIMINATOR,
    HELD_OUT,
    PERCEPTUAL,
    RUNS,
    TRAIN,
    VAE_D4,
    large_crops,
    vae_optimizer,
)
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 1500
    return TrainConfig(
        stage=VAEStage(
            vae=VAE_D4,
            source=f"{RUNS}/encoder/model",
            optimizer=vae_optimizer(steps),
            discriminator=DISCRIMINATOR,
            perceptual=replace(PERCEPTUAL, dists_weight=0.0),
            adversarial_weight=0.0,
            ema_decay=0.99,
            compute=COMPUTE,
        ),
        data=large_crops(TRAIN, 2),
        evaluation=large_crops(HELD_OUT, 4),
        steps=steps,
        log_every=25,
        evaluate_every=250,
        save_every=125,
    )
