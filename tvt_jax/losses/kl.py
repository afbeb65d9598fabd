"""Kullback-Leibler divergence of a VAE's posterior."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tvt_jax.models.vae import Posterior


def kl_divergence(posterior: Posterior) -> Float[Array, ""]:
    """Return the divergence from the standard normal, in nats, summed over the latent, averaged over the batch."""
    mean, log_variance = posterior
    divergence = 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance)
    return divergence.sum((1, 2, 3)).mean()
