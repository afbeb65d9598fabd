"""The base of the decoder ablations: configs/tiny/decoder.py cut short, with a GAN.

python -m benchmarks.ablate configs/ablations/decoder*.py --base configs/ablations/decoder.py --out runs/ablations/vae
"""

from dataclasses import replace
from typing import Any

from configs.tiny import decoder
from configs.tiny.shapes import HELD_OUT, vae_optimizer
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.train.config import TrainConfig


def config(**changes: Any) -> TrainConfig:
    """Configure the stage with `changes`; the learning rate ends at zero."""
    base, steps = decoder.config(), 100
    assert isinstance(base.stage, DecoderStage)
    gan: dict[str, Any] = {"adversarial_weight": 0.1, "adversarial_start": steps // 2}
    stage = replace(base.stage, optimizer=vae_optimizer(steps), **gan)
    return replace(
        base,
        stage=replace(stage, **changes),
        data=replace(base.data, mixed=()),
        evaluation=replace(HELD_OUT, crop=64, batch=16, mixed=()),
        steps=steps,
        evaluate_every=steps,
        save_every=steps // 2,
        keep=1,
    )
