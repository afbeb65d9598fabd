"""A finished model trained further on photos of your own: the embedded one, or that of another model folder.

python train.py --config=configs/yours.py --workdir=runs/yours
python train.py --config=configs/yours.py:MODEL --workdir=runs/yours

Its networks, time step and colour fix are the model's own. docs/your_photos.md tells how to lay out the photos.
"""

from dataclasses import replace

from configs.tiny.shapes import COMPUTE, DISTILLATION, PERCEPTUAL, degraded
from tvt_jax.data.pipeline import DataConfig
from tvt_jax.model_folder import read_model
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.train.config import TrainConfig

EMBEDDED = "tvt_jax/pretrained/tiny"


def config(model: str = EMBEDDED) -> TrainConfig:
    """Train the whole UNet of a model folder; the learning rate ends at zero after `steps`."""
    steps = 1000
    folder = read_model(model)
    if folder.vae_config is None or folder.unet_config is None:
        raise ValueError(
            f"{model} has no VAE and UNet, so there is nothing to train further: name a model that restores"
        )
    data = DataConfig(path="photos/train", crop=256, batch=2)
    return TrainConfig(
        stage=AdaptStage(
            vae_source=model,
            vae=folder.vae_config,
            prior_source=model,
            prior=folder.unet_config,
            student=folder.unet_config,
            trained="all",
            perceptual=replace(PERCEPTUAL, lpips_weight=0.3, dists_weight=3.0),
            distillation=replace(DISTILLATION, weight=0.0),
            optimizer=OptimizerConfig(learning_rate=2e-4, warmup=50, decay_until=steps, clip=1.0),
            time_step=folder.card.time_step,
            color_fix=folder.card.color_fix,
            trained_color_fix=folder.card.color_fix,
            ema_decay=0.995,
            compute=COMPUTE,
        ),
        data=replace(degraded(data), enlarge=(1.0, 2.0)),
        evaluation=degraded(replace(data, path="photos/held_out", batch=4, flips=False)),
        steps=steps,
        log_every=25,
        evaluate_every=250,
        save_every=125,
    )
