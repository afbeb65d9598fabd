"""Stage 2 at full size: the 4x encoder against the frozen 4x decoder.

python train.py --config=configs/sd21/encoder.py --workdir=runs/sd21/encoder

Starts from runs/sd21/decoder/model. `latent_distance` in the log tells how far its latents lie from the 8x encoder's.
"""

from dataclasses import replace

from configs.sd21.shapes import COMPUTE, HELD_OUT, RUNS, VAE_D4, VAE_D8, VAE_DATA, VAE_OPTIMIZER
from tvt_jax.stages.encoder import EncoderStage
from tvt_jax.train.config import TrainConfig


def config() -> TrainConfig:
    return TrainConfig(
        stage=EncoderStage(
            source=f"{RUNS}/decoder/model",
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
