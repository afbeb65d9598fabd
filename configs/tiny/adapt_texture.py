"""Stage 3, last part: with DISTS, which sees texture.

python train.py --config=configs/tiny/adapt_texture.py --workdir=runs/tiny/adapt_texture
"""

from dataclasses import replace

from configs.tiny.shapes import HELD_OUT, PERCEPTUAL, RUNS, TRAIN, adapt_stage, degraded, large_crops
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 3000
    return TrainConfig(
        stage=adapt_stage(
            steps,
            learning_rate=5e-4,
            student_source=f"{RUNS}/adapt/model",
            mse_weight=1.0,
            perceptual=replace(PERCEPTUAL, lpips_weight=0.3, dists_weight=3.0),
        ),
        data=replace(degraded(large_crops(TRAIN, 2)), enlarge=(1.0, 2.0)),
        evaluation=degraded(large_crops(HELD_OUT, 4)),
        steps=steps,
        log_every=25,
        evaluate_every=500,
        save_every=125,
    )
