"""Stage 3, last part: with DISTS, which sees texture.

python train.py --config=configs/tiny/adapt_texture.py --workdir=runs/tiny/adapt_texture
"""

from dataclasses import replace

from configs.tiny import adapt
from configs.tiny.shapes import PERCEPTUAL, RUNS, adapt_stage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 3000
    stage = adapt_stage(
        steps,
        learning_rate=5e-4,
        student_source=f"{RUNS}/adapt/model",
        mse_weight=1.0,
        perceptual=replace(PERCEPTUAL, lpips_weight=0.3, dists_weight=3.0),
    )
    return replace(adapt.config(), stage=stage, steps=steps)
