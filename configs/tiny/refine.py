"""A second round of stage 3, on larger crops and above all by DISTS, whose deepest features need a picture to look at.

python train.py --config=configs/tiny/refine.py --workdir=runs/tiny/refine
"""

from dataclasses import replace

from configs.tiny import adapt
from configs.tiny.shapes import HELD_OUT, PERCEPTUAL, RUNS, TRAIN, degraded
from tvt_jax.config import TrainConfig
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.optimizer import OptimizerConfig


def config() -> TrainConfig:
    """The adapt stage's settings on its finished UNet; the learning rate ends at zero after `steps`."""
    base, steps = adapt.config(), 800
    assert isinstance(base.stage, AdaptStage)
    stage = replace(
        base.stage,
        student_source=f"{RUNS}/adapt/model",
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup=20, decay_until=steps),
        mse_weight=1.0,
        perceptual=replace(PERCEPTUAL, lpips_weight=0.3, dists_weight=3.0),
        vsd_weight=0.0,
    )
    return replace(
        base,
        stage=stage,
        data=replace(degraded(TRAIN), crop=256, batch=2),
        evaluation=replace(degraded(HELD_OUT), crop=256, batch=4),
        steps=steps,
        evaluate_every=200,
        save_every=50,
    )
