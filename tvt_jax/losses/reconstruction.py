"""Pixel and perceptual distance of a reconstruction."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float


def reconstruction_loss(
    image: Float[Array, "b h w 3"],
    target: Float[Array, "b h w 3"],
    perceptual: Callable[[Array, Array], Array],
) -> Float[Array, ""]:
    """Add L1 and perceptual distance, summed over the pixels and channels, averaged over the batch.

    The sum is latent-diffusion's: beside it the KL weight of 1e-6 and the adversarial weight have their published
    meaning. Its log-variance scalar is left out: the published optimiser never trains it, so it stays 0.

    Args:
        image: reconstruction, about [-1, 1].
        target: truth in [-1, 1].
        perceptual: weighted distance of two batches of images, a value each; it counts once a pixel and channel.
    """
    per_image = jnp.abs(image - target).sum((1, 2, 3)) + perceptual(image, target) * image[0].size
    return per_image.mean()
