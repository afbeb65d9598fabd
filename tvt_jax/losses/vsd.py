"""Variational score distillation (arXiv 2305.16213) in the form of one-step restoration (arXiv 2406.08177)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def vsd_loss(
    latent: Float[Array, "b h w c"], clean_real: Float[Array, "b h w c"], clean_fake: Float[Array, "b h w c"]
) -> Float[Array, ""]:
    """Return the squared distance to the latent moved along the difference of the two scores.

    Its gradient is 2 / size times (clean_fake - clean_real) / w, w = mean |latent - clean_real| of each sample.

    Args:
        latent: the student's scaled latent; the only argument a gradient flows to.
        clean_real: clean latent predicted by the frozen teacher from the noised latent, with guidance.
        clean_fake: the same by the fake score, which models the student's own results.
    """
    weight = jnp.abs(latent - clean_real).mean((1, 2, 3), keepdims=True)
    gradient = (clean_fake - clean_real) / weight
    target = jax.lax.stop_gradient(latent - gradient)
    return jnp.square(latent - target).mean()


def guide(
    conditional: Float[Array, "b h w c"], negative: Float[Array, "b h w c"], scale: float
) -> Float[Array, "b h w c"]:
    """Lead away from the negative prompt's prediction: classifier-free guidance (arXiv 2207.12598)."""
    return negative + scale * (conditional - negative)


def split_patches(latent: Float[Array, "b h w c"], count: int) -> Float[Array, "bn h2 w2 c"]:
    """Cut each latent into count x count patches, each a batch entry: the size that the teacher was trained on."""
    batch, height, width, channels = latent.shape
    if height % count or width % count:
        raise ValueError(f"a latent of {height}x{width} cannot be cut into {count}x{count} patches")
    latent = latent.reshape(batch, count, height // count, count, width // count, channels)
    return latent.swapaxes(2, 3).reshape(-1, height // count, width // count, channels)


def draw_patches(
    rng: PRNGKeyArray, latent: Float[Array, "b h w c"], count: int, drawn: int
) -> Float[Array, "bn h2 w2 c"]:
    """Cut each latent into count x count patches and take `drawn` of them by chance, different ones each."""
    if not 1 <= drawn <= count**2:
        raise ValueError(f"{drawn} patches cannot be drawn from a latent cut into {count}x{count}")
    patches = split_patches(latent, count)
    if drawn == count**2:
        return patches
    of_image = patches.reshape(len(latent), count**2, *patches.shape[1:])
    draw = jax.vmap(lambda key, choices: jax.random.choice(key, choices, (drawn,), replace=False))
    return draw(jax.random.split(rng, len(latent)), of_image).reshape(-1, *patches.shape[1:])
