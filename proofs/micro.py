"""All five stages with networks of eight channels: what proofs and the stages' tests train."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tvt_jax.data.degradation import TVT
from tvt_jax.data.pipeline import DataConfig
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.models.discriminator import PatchDiscriminatorConfig
from tvt_jax.models.unet import PLAIN_BLOCK, UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.stages.encoder import EncoderStage
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.stages.prior import PriorStage
from tvt_jax.stages.student import add_level
from tvt_jax.stages.vae import VAEStage
from tvt_jax.train.config import TrainConfig

# Each stage, after those whose models it starts from.
NEEDS = {
    "vae": (),
    "decoder": ("vae",),
    "prior": ("vae",),
    "encoder": ("decoder",),
    "adapt": ("encoder", "prior"),
}
CROP = 32
STEPS = 4
MIDDLE = 2  # saved there, and the discriminator starts
# Nearly all the time goes into compiling, so it is done with little optimisation, and with random bits that are drawn
# by one instruction in place of a hundred.
QUICK = {"jax_disable_most_optimizations": True, "jax_default_prng_impl": "unsafe_rbg"}

# As few layers as will do, and one level less than the names say (4x and 2x): nearly all the time goes into compiling.
VAE_D8 = AutoencoderKLConfig(block_out_channels=(8, 8, 8), layers_per_block=0, norm_num_groups=4, scaling_factor=1.0)
VAE_D4 = replace(VAE_D8, block_out_channels=(8, 8), mid_block=False)
PRIOR = UNet2DConditionConfig(
    block_out_channels=(8, 8),
    down_block_types=(PLAIN_BLOCK, PLAIN_BLOCK),  # the middle has attention all the same
    layers_per_block=1,
    attention_heads=(2, 2),
    cross_attention_dim=8,
    norm_num_groups=4,
)
STUDENT = add_level(PRIOR)
OPTIMIZER = OptimizerConfig(learning_rate=2e-3)
GAN: dict[str, Any] = {
    "discriminator": PatchDiscriminatorConfig(features=4, layers=1),
    "perceptual": PerceptualLoss(lpips_net="alex"),
    "adversarial_start": MIDDLE,
}


def stage(name: str, runs: Path) -> Any:
    """Make the stage that reads the models of the runs before it under `runs`."""
    model = {before: str(runs / before / "model") for before in NEEDS}
    match name:
        case "vae":
            return VAEStage(vae=VAE_D8, optimizer=OPTIMIZER, **GAN)
        case "prior":
            return PriorStage(unet=PRIOR, source=model["vae"], vae=VAE_D8, optimizer=OPTIMIZER)
        case "decoder":
            return DecoderStage(vae=VAE_D4, source=model["vae"], source_vae=VAE_D8, optimizer=OPTIMIZER, **GAN)
        case "encoder":
            return EncoderStage(vae=VAE_D4, source=model["decoder"], source_vae=VAE_D8, optimizer=OPTIMIZER, **GAN)
        case _:
            return AdaptStage(
                vae_source=model["encoder"],
                vae=VAE_D4,
                prior_source=model["prior"],
                prior=PRIOR,
                student=STUDENT,
                optimizer=OPTIMIZER,
                perceptual=PerceptualLoss(lpips_net="alex", dists_weight=1.0),
                time_step=400,
            )


def micro_config(name: str, root: Path, **changes: Any) -> TrainConfig:
    """Configure four steps of two crops; `root` has the folders images and runs."""
    degraded = name in ("prior", "adapt")
    data = DataConfig(path=str(root / "images"), crop=CROP, batch=2, flips=False, degradation=TVT if degraded else None)
    every = {"log_every": 1, "evaluate_every": 1000, "save_every": MIDDLE, "evaluation_batches": 1}
    defaults = {"stage": stage(name, root / "runs"), "data": data, "steps": STEPS, "data_shards": 1}
    return TrainConfig(**defaults | every | changes)


def write_images(folder: Path) -> None:
    """Write three pictures of gradients and a little noise, each one crop large."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:CROP, :CROP] / CROP
    for i in range(3):
        smooth = np.stack([rows, columns, (rows + i * columns) / 3], axis=-1)
        noisy = 200 * smooth + generator.uniform(0, 55, (CROP, CROP, 3))
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{i}.png")


def config() -> TrainConfig:
    """Configure `train.py --config=proofs/micro.py`: MICRO_STAGE names the stage, MICRO_ROOT the folder."""
    return micro_config(os.environ["MICRO_STAGE"], Path(os.environ["MICRO_ROOT"]), save_every=1)
