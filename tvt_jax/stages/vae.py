"""Train a whole VAE: the stand-in for SD's 8x VAE at small size, a 4x one without transfer, or one to be finished."""

from dataclasses import dataclass

from jaxtyping import PRNGKeyArray, PyTree

from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.shapes import param_shapes
from tvt_jax.stages.autoencoder import AutoencoderStage
from tvt_jax.stages.sources import read_source
from tvt_jax.train.state import State


@dataclass(frozen=True, kw_only=True)
class VAEStage(AutoencoderStage):
    """Encoder and decoder together, from random weights or from a VAE that is there.

    Attributes:
        source: model folder of a VAE of this shape to go on from, as on larger crops; None starts from random weights.
        initial_log_variance: of the posterior before training; well below 0 the first steps are not lost in noise.
    """

    source: str | None = None
    initial_log_variance: float = -6.0

    def load(self) -> PyTree:
        """Read the VAE to go on from, if there is one."""
        start = {"start": read_source(self.source, vae=self.vae).vae} if self.source else {}
        return super().load() | start

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` reads."""
        return super().abstract() | ({"start": param_shapes(self.vae)} if self.source else {})

    def initial(self, rng: PRNGKeyArray, frozen: PyTree) -> PyTree:
        """Take the VAE to go on from, or draw random weights with a narrow posterior."""
        if self.source:
            return frozen["start"]
        vae = super().initial(rng, frozen)
        bias = vae["quant_conv"]["bias"].at[self.vae.latent_channels :].add(self.initial_log_variance)
        return {**vae, "quant_conv": {**vae["quant_conv"], "bias": bias}}

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give the VAE alone."""
        origin = f", from {self.source}" if self.source else ""
        return ModelFolder(card=ModelCard(source=f"tvt_jax, stage vae{origin}"), vae_config=self.vae, vae=state.ema)
