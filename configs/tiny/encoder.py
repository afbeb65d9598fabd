"""Stage 2: a 4x encoder against the frozen 4x decoder.

python train.py --config=configs/tiny/encoder.py --workdir=runs/tiny/encoder
"""

from configs.tiny.shapes import (
    COMPUTE,
    DISCRIMINATOR,
    HELD_OUT,
    PERCEPTUAL,
    RUNS,
    TRAIN,
    VAE_D4,
    VAE_D8,
    large_crops,
    vae_optimizer,
)
from tvt_jax.stages.encoder import EncoderStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 2000
    return TrainConfig(
        stage=EncoderStage(
            vae=VAE_D4,
            source=f"{RUNS}/decoder/model",
            source_vae=VAE_D8,
            optimizer=vae_optimizer(steps),
            discriminator=DISCRIMINATOR,
            perceptual=PERCEPTUAL,
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
