"""The base of the adapt ablations: configs/tiny/adapt.py cut short, on small crops. They differ from it in one thing.

python -m benchmarks.ablate configs/ablations/adapt*.py --base configs/ablations/adapt.py --out runs/ablations/adapt
"""

from dataclasses import replace
from typing import Any

from configs.tiny import adapt
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.train.config import TrainConfig


def config(**changes: Any) -> TrainConfig:
    """Configure the stage with `changes`; the learning rate ends at zero."""
    base, steps = adapt.config(), 240
    assert isinstance(base.stage, AdaptStage)
    optimizer = replace(base.stage.optimizer, decay_until=steps)
    return replace(
        base,
        stage=replace(base.stage, optimizer=optimizer, **changes),
        data=replace(base.data, crop=64),
        steps=steps,
        evaluate_every=steps,
        save_every=60,
        keep=1,
    )
