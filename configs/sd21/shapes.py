"""Shapes of the full-size networks, and what the three stages share."""

from tvt_jax.data.degradation import TVT
from tvt_jax.data.pipeline import DataConfig
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.compute import Compute
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.stages.student import add_level

RUNS = "runs/sd21"
SD21 = "models/sd21"  # python -m convert import --sd SD_DIR --out models/sd21

VAE_D8 = AutoencoderKLConfig()
VAE_D4 = AutoencoderKLConfig(block_out_channels=(128, 256, 256), mid_block=False)
PRIOR = UNet2DConditionConfig()
STUDENT = add_level(PRIOR, CROSS_ATTENTION_BLOCK)

COMPUTE = Compute(dtype="bfloat16", remat="blocks")

# The released VAE stages have no published hyperparameters: these are latent-diffusion's for a KL VAE.
VAE_OPTIMIZER = OptimizerConfig(learning_rate=4.5e-6 * 32, betas=(0.5, 0.9))
VAE_DATA = DataConfig(path="data/openimages", mixed=(("data/lsdir", 1.0),), crop=256, batch=32, workers=8)

ADAPT_DATA = DataConfig(path="data/lsdir", mixed=(("data/ffhq", 0.12),), crop=512, batch=16, workers=8, degradation=TVT)
HELD_OUT = DataConfig(path="data/held_out", crop=512, batch=16, flips=False, degradation=TVT)
