"""Stage 3 at full size: Stable Diffusion 2.1's UNet, one level higher, restores in one step (LoRA, MSE, LPIPS, VSD).

python train.py --config=configs/sd21/adapt.py --workdir=runs/sd21/adapt

Starts from models/sd21 and runs/sd21/encoder/model; an imported release's VAE does as well
(--config.stage.vae_source=models/tvt). The released training used 16 images a step; four take 10.9 of a v5e chip's
16 GiB. Ask before starting: `--plan=v5e:4x4` in place of `--workdir`, with `--quick` for an answer in minutes.
The release trains for ten epochs, which of N images are 10 N / 16 steps; steps are given here, so that the end does not
depend on what is in a folder. Its prompts are RAM's tags of each image: --config.data.prompts=PROMPTS, once they are
made (docs/data.md). What else differs, and why, stands in docs/stages.md.
"""

from configs.sd21.shapes import ADAPT_DATA, COMPUTE, HELD_OUT, PRIOR, RUNS, SD21, STUDENT, VAE_D4
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.models.lora import LoRAConfig
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.stages.distillation import Distillation
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return TrainConfig(
        stage=AdaptStage(
            vae_source=f"{RUNS}/encoder/model",
            vae=VAE_D4,
            prior_source=SD21,
            prior=PRIOR,
            student=STUDENT,
            optimizer=OptimizerConfig(learning_rate=5e-5, weight_decay=1e-2, clip=1.0),
            lora=LoRAConfig(rank=4, alpha=8.0),
            mse_weight=1.0,
            perceptual=PerceptualLoss(lpips_net="vgg", lpips_weight=2.0),
            distillation=Distillation(weight=1.0, patches=2, drawn=4, guidance=7.5),
            time_step=1,
            compute=COMPUTE,
        ),
        data=ADAPT_DATA,
        evaluation=HELD_OUT,
        steps=50_000,
        evaluate_every=1000,
        save_every=500,
    )
