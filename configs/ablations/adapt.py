"""The base of the adapt ablations: LoRA on the prior, few steps, small crops. The others differ from it in one thing.

python -m benchmarks.ablate configs/ablations/adapt*.py --base configs/ablations/adapt.py --out runs/ablations/adapt
"""

from dataclasses import replace
from typing import Any

from configs.tiny import adapt
from configs.tiny.shapes import DISTILLATION, HELD_OUT, PERCEPTUAL, adapt_stage, degraded
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.train.config import TrainConfig


def config(**changes: Any) -> TrainConfig:
    """Configure the stage with `changes`; the learning rate ends at zero."""
    base, steps = adapt.config(), 240
    stage = adapt_stage(
        steps,
        learning_rate=1e-3,
        **{
            "trained": "lora",
            "optimizer": OptimizerConfig(learning_rate=1e-3, warmup=20, decay_until=steps),
            "ema_decay": 0.99,
            "lora": DISTILLATION.lora,
            "perceptual": replace(PERCEPTUAL, lpips_weight=0.3, dists_weight=3.0),
            **changes,
        },
    )
    return replace(
        base,
        stage=stage,
        data=replace(base.data, crop=64, mixed=(), clean=0.0),
        evaluation=replace(degraded(HELD_OUT), mixed=(), clean=0.0),
        steps=steps,
        evaluate_every=steps,
        save_every=60,
        keep=1,
    )
