"""An 8x VAE from nothing, standing in for SD's.

python train.py --config=configs/tiny/vae.py --workdir=runs/tiny/vae
"""

from configs.tiny.shapes import COMPUTE, DISCRIMINATOR, HELD_OUT, TRAIN, VAE_D8, large_crops, vae_optimizer
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 2000
    return TrainConfig(
        stage=VAEStage(
            vae=VAE_D8,
            optimizer=vae_optimizer(steps),
            discriminator=DISCRIMINATOR,
            perceptual=PerceptualLoss(lpips_net="alex", lpips_weight=0.2),
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
