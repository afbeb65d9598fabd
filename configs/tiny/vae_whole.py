"""Stage 2, last part: encoder and decoder of the 4x VAE together.

python train.py --config=configs/tiny/vae_whole.py --workdir=runs/tiny/vae_whole
"""

from dataclasses import replace

from configs.tiny.shapes import PERCEPTUAL, RUNS, VAE_D4, vae_run, vae_settings
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 1500
    return vae_run(
        VAEStage(
            vae=VAE_D4,
            source=f"{RUNS}/encoder/model",
            **vae_settings(steps),
            perceptual=replace(PERCEPTUAL, dists_weight=0.0),
        ),
        steps,
    )
