"""Stage 2: train a 4x encoder against the frozen 4x decoder."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree

from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.shapes import param_shapes
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.autoencoder import ENCODER, AutoencoderStage
from tvt_jax.stages.decoder import require_half
from tvt_jax.stages.images import enlarge
from tvt_jax.stages.sources import read_source
from tvt_jax.train.state import Batch, Metrics, State


@dataclass(frozen=True, kw_only=True)
class EncoderStage(AutoencoderStage):
    """E4 learns that D4(E4(x)) = x, which keeps it in the latent space that D4 reads (TVT, second stage).

    Attributes:
        source: model folder of the decoder stage.
        source_vae: shape of the 8x VAE in it.
    """

    source: str
    source_vae: AutoencoderKLConfig

    trained = ENCODER

    def __post_init__(self) -> None:
        super().__post_init__()
        require_half(self.vae, self.source_vae)
        self._require_equal("latent_channels", "vae", "source_vae")

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of what `evaluate` measures."""
        return (*super().evaluated, "latent_distance")

    def load(self) -> PyTree:
        """Read D4 and, to measure the distance to, E8."""
        folder = read_source(self.source, vae=self.vae, vae_source=self.source_vae)
        return super().load() | {"vae": folder.vae, "source": folder.vae_source}

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` reads."""
        return super().abstract() | {"vae": param_shapes(self.vae), "source": param_shapes(self.source_vae)}

    def initial(self, rng: PRNGKeyArray, frozen: PyTree) -> PyTree:
        """Start from the encoder in the folder, which took over E8's layers where they fit."""
        return frozen["vae"]

    def scores(self, state: State, frozen: PyTree, batch: Batch) -> tuple[Metrics, dict[str, Array]]:
        """Score reconstructions, and the distance of E4's latents from E8's of the image enlarged 2x."""
        metrics, images = super().scores(state, frozen, batch)
        image = from_uint8(batch["hr"])
        vae, source = self.compute.vae(self.vae), self.compute.vae(self.source_vae)
        own = vae.apply({"params": self.whole_vae(state.ema, frozen)}, image, method="encode").mean
        other = source.apply({"params": frozen["source"]}, enlarge(image, 2), method="encode").mean
        distance = jnp.linalg.norm((own - other).reshape(len(image), -1), axis=1)
        metrics["latent_distance"] = distance / jnp.linalg.norm(other.reshape(len(image), -1), axis=1)
        return metrics, images

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give the whole VAE-D4."""
        card = ModelCard(source=f"tvt_jax, stage encoder, from {self.source}")
        return ModelFolder(card=card, vae_config=self.vae, vae=self.whole_vae(state.ema, frozen))
