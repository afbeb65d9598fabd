"""Stage 1: a 4x decoder on the frozen 8x encoder's latents.

python train.py --config=configs/tiny/decoder.py --workdir=runs/tiny/decoder
"""

from configs.tiny.shapes import DISCRIMINATOR, HELD_OUT, RUNS, TRAIN, VAE_D4, VAE_D8, small_crops
from tvt_jax.config import TrainConfig
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.stages.optimizer import OptimizerConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 150
    return TrainConfig(
        stage=DecoderStage(
            vae=VAE_D4,
            source=f"{RUNS}/vae/model",
            source_vae=VAE_D8,
            optimizer=OptimizerConfig(learning_rate=2e-3, betas=(0.9, 0.99), warmup=20, decay_until=steps),
            discriminator=DISCRIMINATOR,
            perceptual_net="alex",
            adversarial_start=100,
            ema_decay=0.99,
        ),
        data=small_crops(TRAIN),
        evaluation=small_crops(HELD_OUT),
        steps=steps,
        log_every=25,
        evaluate_every=75,
        save_every=100,
    )
