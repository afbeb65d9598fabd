import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tvt_jax.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss
from tvt_jax.models.convolution import SAME_3X3, convolve

# Float32 against float64: a few roundings of sums over at most some thousand numbers.
CLOSE = {"rtol": 1e-5}


@pytest.fixture
def scores():
    """Scores on both sides of the hinges at -1 and 1."""
    return np.random.default_rng(0).normal(0, 2, (2, 3, 5, 5, 1)).astype(np.float32)


def test_hinge_losses(scores):
    real, fake = scores.astype(np.float64)
    expected = 0.5 * (np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean())
    np.testing.assert_allclose(jax.jit(discriminator_loss)(*scores), expected, **CLOSE)
    np.testing.assert_allclose(jax.jit(generator_loss)(scores[1]), -fake.mean(), **CLOSE)


def test_scores_beyond_the_hinge_have_no_gradient():
    of_real, of_fake = jax.grad(discriminator_loss, (0, 1))(jnp.array([0.5, 1.5]), jnp.array([-0.5, -1.5]))
    np.testing.assert_array_equal(of_real, [-0.25, 0])
    np.testing.assert_array_equal(of_fake, [0.25, 0])


def calculate_adaptive_weight(nll_loss, g_loss, last_layer, discriminator_weight=1.0):
    """latent-diffusion's LPIPSWithDiscriminator.calculate_adaptive_weight, line by line."""
    nll_grads = torch.autograd.grad(nll_loss, last_layer, retain_graph=True)[0]
    g_grads = torch.autograd.grad(g_loss, last_layer, retain_graph=True)[0]
    d_weight = torch.norm(nll_grads) / (torch.norm(g_grads) + 1e-4)
    d_weight = torch.clamp(d_weight, 0.0, 1e4).detach()
    return d_weight * discriminator_weight


# A faint discriminator's gradient is small: the ratio then meets its limit.
@pytest.mark.parametrize(("faintness", "limited"), [(1.0, False), (1e-6, True)])
def test_adaptive_weight_of_a_small_decoder(faintness, limited):
    generator = np.random.default_rng(1)
    shapes = {"z": (2, 4, 6, 6), "target": (2, 3, 6, 6), "hidden": (8, 4, 3, 3), "last": (3, 8, 3, 3)}
    arrays = {name: generator.normal(0, 0.3, shape) for name, shape in shapes.items()}
    arrays["critic"] = generator.normal(0, 0.3, (1, 3, 3, 3)) * faintness

    z, target, hidden, last, critic = (torch.tensor(array) for array in arrays.values())
    image = F.conv2d(F.silu(F.conv2d(z, hidden, padding=1)), last.requires_grad_(), padding=1)
    scores = F.conv2d(image, critic, padding=1)
    expected = calculate_adaptive_weight((target - image).abs().sum() / len(z), -scores.mean(), last)

    z, target, hidden, last, critic = (_nhwc(array) for array in arrays.values())

    def decode(last):
        return convolve(jax.nn.silu(convolve(z, hidden, 1, SAME_3X3)), last, 1, SAME_3X3)

    reconstruction = jax.grad(lambda last: jnp.abs(target - decode(last)).sum() / len(z))(last)
    adversarial = jax.grad(lambda last: generator_loss(convolve(decode(last), critic, 1, SAME_3X3)))(last)
    weight = adaptive_weight(reconstruction, adversarial)
    np.testing.assert_allclose(weight, expected, **CLOSE)
    assert (weight == 1e4) == limited


def test_adaptive_weight_is_a_constant_to_the_gradient():
    gradient = jax.grad(lambda x: adaptive_weight(x, jnp.ones(3)))(jnp.ones(3))
    np.testing.assert_array_equal(gradient, 0)


def _nhwc(array):
    """NCHW to NHWC, and OIHW kernels to HWIO; both as float32."""
    axes = (2, 3, 1, 0) if array.shape[-1] == 3 else (0, 2, 3, 1)
    return jnp.asarray(array.transpose(axes), jnp.float32)
