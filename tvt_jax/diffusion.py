"""The forward noising process of Stable Diffusion and prediction of the clean latent in one step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Prediction = Literal["noise", "residual"]


class OneStep(NamedTuple):
    """The one step of a restoration.

    Attributes:
        time_step: that the UNet is told, in [0, 1000).
        prediction: what it gives: the noise, which the schedule takes out, or the residual, which is subtracted.
    """

    time_step: int = 1
    prediction: Prediction = "noise"


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """Variance-preserving schedule (arXiv 2006.11239) with SD's "scaled linear" betas.

    Attributes:
        beta_start: beta of the first step.
        beta_end: beta of the last step.
        steps: number of steps.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000

    @property
    def alphas_cumprod(self) -> Float[np.ndarray, " t"]:
        """Share of the clean latent's variance that is left at each step."""
        betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=np.float64) ** 2
        return np.cumprod(1 - betas).astype(np.float32)

    def add_noise(
        self, clean: Float[Array, "b h w c"], noise: Float[Array, "b h w c"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b h w c"]:
        """Noise `clean` up to `timesteps`."""
        signal, sigma = self._weights(timesteps)
        return signal * clean + sigma * noise

    def predict_x0(
        self, noisy: Float[Array, "b h w c"], noise: Float[Array, "b h w c"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b h w c"]:
        """Undo `add_noise` with a predicted `noise`."""
        signal, sigma = self._weights(timesteps)
        return (noisy - sigma * noise) / signal

    def _weights(self, timesteps: Int[Array, " b"]) -> tuple[Array, Array]:
        alpha = jnp.asarray(self.alphas_cumprod)[timesteps][:, None, None, None]
        return jnp.sqrt(alpha), jnp.sqrt(1 - alpha)


def restore_latent(
    latent: Float[Array, "b h w c"],
    predict: Callable[[Array, Array], Float[Array, "b h w c"]],
    time_step: int,
    prediction: Prediction = "noise",
) -> Float[Array, "b h w c"]:
    """Restore scaled latents in one step: as if they were noised up to `time_step`, or less a residual (PiSA-SR).

    Args:
        latent: of degraded images.
        predict: the UNet, called as (latent, time steps).
        time_step: in [0, 1000).
        prediction: what it gives.
    """
    timesteps = jnp.full(latent.shape[:1], time_step)
    predicted = predict(latent, timesteps)
    if prediction == "residual":
        return latent - predicted
    return NoiseSchedule().predict_x0(latent, predicted, timesteps)
