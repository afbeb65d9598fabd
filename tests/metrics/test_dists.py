import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.models.torch_perceptual import torch_dists, torch_l2_pool
from tvt_jax.metrics.dists import dists
from tvt_jax.models.dists import l2_pool, load_dists


@pytest.mark.slow
def test_equals_published(published_pair):
    image, truth, expected = published_pair
    # Most likely scored on a GPU, whose convolutions round their inputs.
    assert dists(image, truth) == pytest.approx(expected["DISTS"], abs=2e-4)


def test_equals_torch(pair):
    x, y = (torch.tensor(image.transpose(2, 0, 1)[None] / 127.5 - 1) for image in pair)
    # float32 against float64 through 13 convolutions.
    assert dists(*pair) == pytest.approx(torch_dists(load_dists(), x, y).item(), abs=1e-5)


def test_equal_images_are_at_distance_0(pair):
    # The channel weights' float32 sums, taken in two orders.
    assert dists(pair[0], pair[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("side", [8, 9])
def test_pool_and_its_gradient_equal_torch(side):
    x = np.random.default_rng(0).standard_normal((2, side, side + 3, 3)).astype(np.float32)
    x_torch = torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.float64, requires_grad=True)
    expected = torch_l2_pool(x_torch)
    expected.square().sum().backward()
    gradient = jax.grad(lambda x: jnp.sum(l2_pool(x) ** 2))(jnp.asarray(x))
    # float32 rounding of nine products.
    np.testing.assert_allclose(
        l2_pool(jnp.asarray(x)), expected.detach().numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(gradient, x_torch.grad.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)
