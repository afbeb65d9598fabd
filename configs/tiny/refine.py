"""A second round of stage 3, judged by VGG16 in place of AlexNet: it sees the weave that the first round leaves.

python train.py --config=configs/tiny/refine.py --workdir=runs/tiny/refine
"""

from dataclasses import replace

from configs.tiny import adapt
from configs.tiny.shapes import RUNS
from tvt_jax.config import TrainConfig
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.optimizer import OptimizerConfig


def config() -> TrainConfig:
    """The adapt stage's settings on its finished UNet; the learning rate ends at zero after `steps`."""
    base, steps = adapt.config(), 700
    assert isinstance(base.stage, AdaptStage)
    stage = replace(
        base.stage,
        student_source=f"{RUNS}/adapt/model",
        optimizer=OptimizerConfig(learning_rate=5e-4, warmup=20, decay_until=steps),
        mse_weight=1.0,
        perceptual=PerceptualLoss(lpips_net="vgg", lpips_weight=1.0, dists_weight=2.0),
        vsd_weight=0.0,
    )
    return replace(base, stage=stage, steps=steps, evaluate_every=200, save_every=100)
