"""OSEDiff's training at full size: Stable Diffusion 2.1's own 8x VAE, LoRA in its encoder and in the UNet, and VSD.

python train.py --config=configs/sd21/osediff.py --workdir=runs/sd21/osediff [--config.data.prompts=PROMPTS]

Starts from models/sd21 alone. Its published prompts are RAM's tags of each image: docs/data.md says how to make them.
What differs from the published training stands in docs/stages.md. Ask before starting:
`--plan=v5e:4x4` in place of `--workdir`, with `--quick` for an answer in minutes.
"""

from dataclasses import replace

from configs.sd21.shapes import ADAPT_DATA, COMPUTE, HELD_OUT, PRIOR, SD21, VAE_D8
from tvt_jax.data.degradation import REAL_ESRGAN
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.models.lora import LoRAConfig
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.distillation import Distillation
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    lora = LoRAConfig(rank=4, alpha=8.0)
    return TrainConfig(
        stage=AdaptStage(
            vae_source=SD21,
            vae=VAE_D8,
            prior_source=SD21,
            prior=PRIOR,
            student=PRIOR,
            whole=("conv_in",),
            optimizer=OptimizerConfig(learning_rate=5e-5, weight_decay=1e-2, clip=1.0),
            lora=lora,
            encoder_lora=lora,
            mse_weight=1.0,
            perceptual=PerceptualLoss(lpips_net="vgg", lpips_weight=2.0),
            distillation=Distillation(weight=1.0, patches=1, drawn=1, guidance=7.5, times=(20, 980), lora=lora),
            time_step=999,
            compute=COMPUTE,
        ),
        data=replace(ADAPT_DATA, degradation=REAL_ESRGAN),
        evaluation=replace(HELD_OUT, degradation=REAL_ESRGAN),
        steps=100_000,
        evaluate_every=1000,
        save_every=500,
    )
