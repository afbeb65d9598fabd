import jax
import jax.numpy as jnp
import numpy as np

from tvt_jax.losses.reconstruction import reconstruction_loss


def squared(x, y):
    """Stands for weighted LPIPS: one value an image."""
    return 0.7 * jnp.square(x - y).mean((1, 2, 3))


def test_latent_diffusions_sum():
    """Its code: rec + weight * p_loss, with p_loss [b 1 1 1] spread over the pixels, then sum / batch."""
    image, target = np.random.default_rng(0).uniform(-1, 1, (2, 3, 5, 7, 3)).astype(np.float32)
    of_perceptual = np.square(image.astype(np.float64) - target).mean((1, 2, 3), keepdims=True)
    per_pixel = np.abs(image.astype(np.float64) - target) + 0.7 * of_perceptual
    loss = jax.jit(lambda x, y: reconstruction_loss(x, y, squared))(image, target)
    # Float32 sums of 105 numbers.
    np.testing.assert_allclose(loss, per_pixel.sum() / len(image), rtol=1e-5)


def test_equal_images_have_none():
    image = jnp.ones((1, 4, 4, 3))
    assert reconstruction_loss(image, image, squared) == 0
