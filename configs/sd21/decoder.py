"""Stage 1 at full size: the 4x decoder on Stable Diffusion 2.1's 8x encoder's latents.

python -m convert import --sd SD_DIR --out models/sd21
python train.py --config=configs/sd21/decoder.py --workdir=runs/sd21/decoder

Expect the discriminator from step 50,001. Ask before starting: `--plan=v5e:4x4` in place of `--workdir`.
"""

from dataclasses import replace

from configs.sd21.shapes import COMPUTE, HELD_OUT, SD21, VAE_D4, VAE_D8, VAE_DATA, VAE_OPTIMIZER
from tvt_jax.stages.decoder import DecoderStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return TrainConfig(
        stage=DecoderStage(
            source=SD21,
            source_vae=VAE_D8,
            vae=VAE_D4,
            optimizer=VAE_OPTIMIZER,
            compute=COMPUTE,
        ),
        data=VAE_DATA,
        evaluation=replace(HELD_OUT, degradation=None),
        steps=200_000,
        evaluate_every=5000,
        save_every=1000,
    )
