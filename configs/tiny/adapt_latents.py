"""Stage 3, first part: the student learns in latents alone, since nothing is decoded.

python train.py --config=configs/tiny/adapt_latents.py --workdir=runs/tiny/adapt_latents
"""

from dataclasses import replace

from configs.tiny.shapes import DISTILLATION, HELD_OUT, PERCEPTUAL, TRAIN, adapt_stage, degraded, large_crops
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 4800
    return TrainConfig(
        stage=adapt_stage(
            steps,
            learning_rate=2e-3,
            latent_weight=1.0,
            mse_weight=0.0,
            perceptual=replace(PERCEPTUAL, lpips_weight=0.0, dists_weight=0.0),
            distillation=replace(DISTILLATION, weight=0.0),
        ),
        data=degraded(large_crops(TRAIN, 2)),
        evaluation=degraded(large_crops(HELD_OUT, 4)),
        steps=steps,
        log_every=50,
        evaluate_every=1000,
        save_every=500,
    )
