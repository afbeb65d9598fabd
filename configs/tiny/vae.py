"""An 8x VAE from nothing, standing in for SD's.

python train.py --config=configs/tiny/vae.py --workdir=runs/tiny/vae
"""

from configs.tiny.shapes import VAE_D8, vae_run, vae_settings
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 2000
    return vae_run(
        VAEStage(
            vae=VAE_D8,
            **vae_settings(steps),
            perceptual=PerceptualLoss(lpips_net="alex", lpips_weight=0.2),
        ),
        steps,
    )
