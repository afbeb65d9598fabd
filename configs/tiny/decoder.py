"""Stage 1: a 4x decoder on the frozen 8x encoder's latents.

python train.py --config=configs/tiny/decoder.py --workdir=runs/tiny/decoder
"""

from configs.tiny.shapes import PERCEPTUAL, RUNS, VAE_D4, VAE_D8, vae_run, vae_settings
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 2800
    return vae_run(
        DecoderStage(
            vae=VAE_D4,
            source=f"{RUNS}/vae/model",
            source_vae=VAE_D8,
            **vae_settings(steps),
            perceptual=PERCEPTUAL,
        ),
        steps,
    )
