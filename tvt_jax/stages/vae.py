"""Train a VAE from nothing: the stand-in for SD's 8x VAE at small size, and the 4x VAE without transfer."""

from dataclasses import dataclass

from jaxtyping import PRNGKeyArray, PyTree

from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.stages.autoencoder import AutoencoderStage
from tvt_jax.train.state import State


@dataclass(frozen=True, kw_only=True)
class VAEStage(AutoencoderStage):
    """Encoder and decoder together, from random weights.

    Attributes:
        initial_log_variance: of the posterior before training; well below 0 the first steps are not lost in noise.
    """

    initial_log_variance: float = -6.0

    def initial(self, rng: PRNGKeyArray, frozen: PyTree) -> PyTree:
        """Draw random weights, with a narrow posterior."""
        vae = super().initial(rng, frozen)
        bias = vae["quant_conv"]["bias"].at[self.vae.latent_channels :].add(self.initial_log_variance)
        return {**vae, "quant_conv": {**vae["quant_conv"], "bias": bias}}

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give the VAE alone."""
        return ModelFolder(card=ModelCard(source="tvt_jax, stage vae"), vae_config=self.vae, vae=state.ema)
