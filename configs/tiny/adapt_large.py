"""Stage 3, last part: larger crops, and DISTS, which sees texture.

python train.py --config=configs/tiny/adapt_large.py --workdir=runs/tiny/adapt_large
"""

from dataclasses import replace

from configs.tiny.shapes import HELD_OUT, PERCEPTUAL, RUNS, TRAIN, adapt_stage, degraded
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 6000
    return TrainConfig(
        stage=adapt_stage(
            steps,
            learning_rate=5e-4,
            student_source=f"{RUNS}/adapt/model",
            mse_weight=1.0,
            perceptual=replace(PERCEPTUAL, lpips_weight=0.3, dists_weight=3.0),
        ),
        data=replace(degraded(TRAIN), crop=256, batch=1, enlarge=(1.0, 2.0)),
        evaluation=replace(degraded(HELD_OUT), crop=256, batch=4),
        steps=steps,
        log_every=25,
        evaluate_every=1000,
        save_every=250,
    )
