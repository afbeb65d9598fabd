"""Stage 2: a 4x encoder against the frozen 4x decoder.

python train.py --config=configs/tiny/encoder.py --workdir=runs/tiny/encoder
"""

from configs.tiny.shapes import PERCEPTUAL, RUNS, VAE_D4, VAE_D8, vae_run, vae_settings
from tvt_jax.stages.encoder import EncoderStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 2000
    return vae_run(
        EncoderStage(
            vae=VAE_D4,
            source=f"{RUNS}/decoder/model",
            source_vae=VAE_D8,
            **vae_settings(steps),
            perceptual=PERCEPTUAL,
        ),
        steps,
    )
