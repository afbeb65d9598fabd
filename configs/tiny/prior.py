"""A latent diffusion UNet on the tiny 8x VAE, standing in for SD's.

python train.py --config=configs/tiny/prior.py --workdir=runs/tiny/prior
"""

from configs.tiny.shapes import COMPUTE, HELD_OUT, PRIOR, RUNS, TRAIN, VAE_D8, degraded
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.stages.prior import PriorStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    """Train for `steps`; the learning rate ends at zero there."""
    steps = 1200
    return TrainConfig(
        stage=PriorStage(
            unet=PRIOR,
            source=f"{RUNS}/vae/model",
            vae=VAE_D8,
            optimizer=OptimizerConfig(learning_rate=1e-3, kernel_learning_rate=0.02, warmup=20, decay_until=steps),
            ema_decay=0.99,
            compute=COMPUTE,
        ),
        data=degraded(TRAIN),
        evaluation=degraded(HELD_OUT),
        steps=steps,
        log_every=25,
        evaluate_every=125,
        save_every=125,
    )
