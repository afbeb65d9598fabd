"""Stage 3: one-step restoration by the prior with one more level.

python train.py --config=configs/tiny/adapt.py --workdir=runs/tiny/adapt
"""

from dataclasses import replace

from configs.tiny.shapes import HELD_OUT, PERCEPTUAL, PRIOR, RUNS, STUDENT, TRAIN, VAE_D4, degraded
from tvt_jax.models.lora import LoRAConfig
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.distillation import Distillation
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.train.config import TrainConfig

LORA = LoRAConfig(rank=16, alpha=32.0)


def config() -> TrainConfig:
    """Train the embedded model's last part; its card tells those before, which weigh pixels and LPIPS more."""
    return TrainConfig(
        stage=AdaptStage(
            vae_source=f"{RUNS}/encoder/model",
            vae=VAE_D4,
            prior_source=f"{RUNS}/prior/model",
            prior=PRIOR,
            student=STUDENT,
            optimizer=OptimizerConfig(learning_rate=1e-3, warmup=20, decay_until=13_300),
            lora=LORA,
            mse_weight=1.0,
            perceptual=replace(PERCEPTUAL, lpips_weight=0.3, dists_weight=3.0),
            distillation=Distillation(weight=0.01, drawn=1, lora=LORA),
            time_step=200,
            color_fix="wavelet",
            trained_color_fix="wavelet",
            ema_decay=0.99,
        ),
        data=replace(degraded(TRAIN), batch=4, enlarge=(1.0, 2.0)),
        evaluation=degraded(HELD_OUT),
        steps=13_300,
        log_every=25,
        evaluate_every=300,
        save_every=150,
    )
