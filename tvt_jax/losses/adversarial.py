"""Hinge GAN losses and the adaptive weight of latent-diffusion's VAE training."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def generator_loss(fake_scores: Float[Array, "*n"]) -> Float[Array, ""]:
    """Return minus the mean score of the generated images."""
    return -fake_scores.mean()


def discriminator_loss(real_scores: Float[Array, "*n"], fake_scores: Float[Array, "*n"]) -> Float[Array, ""]:
    """Return the hinge loss, which pushes real scores above 1 and fake ones below -1."""
    return 0.5 * (jax.nn.relu(1 - real_scores).mean() + jax.nn.relu(1 + fake_scores).mean())


def adaptive_weight(
    reconstruction_gradient: Float[Array, "*n"], adversarial_gradient: Float[Array, "*n"]
) -> Float[Array, ""]:
    """Return the ratio of the two losses' gradient norms at the decoder's last layer, within [0, 1e4].

    Source: VQGAN (arXiv 2012.09841), equation 7.
    """
    ratio = jnp.linalg.norm(reconstruction_gradient.ravel()) / (jnp.linalg.norm(adversarial_gradient.ravel()) + 1e-4)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, 1e4))
