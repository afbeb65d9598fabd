"""Stage 1: train a 4x decoder on the frozen 8x encoder's latents."""

from dataclasses import dataclass
from typing import Literal

import jax
from jaxtyping import Array, PRNGKeyArray, PyTree

from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.shapes import param_shapes
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.autoencoder import DECODER, AutoencoderStage, Reconstruction
from tvt_jax.stages.images import enlarge, shrink
from tvt_jax.stages.inherit import align_vae, inherit
from tvt_jax.stages.sources import read_source
from tvt_jax.train.state import State


@dataclass(frozen=True, kw_only=True)
class DecoderStage(AutoencoderStage):
    """D4 learns to decode what E8 says of an image of twice the size (TVT, first stage).

    Attributes:
        source: model folder of the 8x VAE.
        source_vae: its shape.
        geometry: 'upsample' encodes the crop enlarged 2x and has the crop as target; 'downsample' encodes the crop
            and has the crop halved as target. The paper does not say which.
        latent: what is decoded in training, the posterior's mean or a sample of it; in evaluation, the mean.
    """

    source: str
    source_vae: AutoencoderKLConfig
    geometry: Literal["upsample", "downsample"] = "upsample"
    latent: Literal["mean", "sample"] = "sample"

    trained = DECODER

    def __post_init__(self) -> None:
        super().__post_init__()
        require_half(self.vae, self.source_vae)
        self._require_equal("latent_channels", "vae", "source_vae")

    @property
    def multiple(self) -> int:
        """Pixels that the sides of a crop must be a multiple of."""
        return self.vae.downsampling if self.geometry == "upsample" else self.source_vae.downsampling

    def load(self) -> PyTree:
        """Read the 8x VAE."""
        return super().load() | {"source": read_source(self.source, vae=self.source_vae).vae}

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` reads."""
        return super().abstract() | {"source": param_shapes(self.source_vae)}

    def initial(self, rng: PRNGKeyArray, frozen: PyTree) -> PyTree:
        """Take over the 8x VAE's layers where they fit."""
        return inherit(super().initial(rng, frozen), align_vae(frozen["source"], self.source_vae, self.vae))

    def reconstruct(self, vae: PyTree, frozen: PyTree, image: Array, rng: PRNGKeyArray | None) -> Reconstruction:
        """Encode with E8 what the geometry says, and decode with D4."""
        seen, target = (enlarge(image, 2), image) if self.geometry == "upsample" else (image, shrink(image, 2))
        posterior = self.compute.vae(self.source_vae).apply({"params": frozen["source"]}, seen, method="encode")
        latent = posterior.mean if rng is None or self.latent == "mean" else posterior.sample(rng)
        latent = jax.lax.stop_gradient(latent)
        return Reconstruction(self.compute.vae(self.vae).apply({"params": vae}, latent, method="decode"), target, None)

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give D4 with an encoder that is still at its start, and the 8x VAE beside it."""
        start = self.initial(jax.random.key(0), frozen)
        return ModelFolder(
            card=ModelCard(source=f"tvt_jax, stage decoder, from {self.source}"),
            vae_config=self.vae,
            vae={**start, **state.ema},
            vae_source_config=self.source_vae,
            vae_source=frozen["source"],
        )


def require_half(vae: AutoencoderKLConfig, source_vae: AutoencoderKLConfig) -> None:
    """Raise ValueError unless the VAE shrinks images half as much as the one that it is transferred from."""
    if 2 * vae.downsampling != source_vae.downsampling:
        raise ValueError(
            f"vae.block_out_channels={vae.block_out_channels} shrinks images {vae.downsampling}x, and "
            f"source_vae.block_out_channels={source_vae.block_out_channels} {source_vae.downsampling}x: "
            "give it one level more than the other"
        )
