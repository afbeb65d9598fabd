"""Stage 3, second part: compared in pixels, without DISTS, whose VGG16 costs three times as much as all the rest.

python train.py --config=configs/tiny/adapt.py --workdir=runs/tiny/adapt
"""

from dataclasses import replace

from configs.tiny.shapes import HELD_OUT, PERCEPTUAL, RUNS, TRAIN, adapt_stage, degraded, large_crops
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 6000
    return TrainConfig(
        stage=adapt_stage(
            steps,
            learning_rate=1e-3,
            student_source=f"{RUNS}/adapt_latents/model",
            mse_weight=2.0,
            perceptual=replace(PERCEPTUAL, lpips_weight=1.0, dists_weight=0.0),
        ),
        data=replace(degraded(large_crops(TRAIN, 2)), enlarge=(1.0, 2.0)),
        evaluation=degraded(large_crops(HELD_OUT, 4)),
        steps=steps,
        log_every=25,
        evaluate_every=500,
        save_every=125,
    )
