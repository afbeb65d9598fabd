import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tvt_jax.metrics.dists import dists
from tvt_jax.models.dists import l2_pool, load_dists


def torch_l2_pool(x: torch.Tensor) -> torch.Tensor:
    window = torch.tensor(np.outer(*[np.hanning(5)[1:-1]] * 2))
    window = (window / window.sum()).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x**2, window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def torch_dists(params: dict, image: np.ndarray, reference: np.ndarray) -> float:
    """DISTS as published, in float64."""

    def levels(image):
        x = torch.tensor(image.transpose(2, 0, 1)[None] / 255)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        features, h, index = [x], (x - mean) / std, 0
        for level, depth in enumerate((2, 2, 3, 3, 3)):
            h = torch_l2_pool(h) if level else h
            for _ in range(depth):
                leaf = params["net"][f"conv_{index}"]
                kernel, bias = torch.tensor(leaf["kernel"].transpose(3, 2, 0, 1)), torch.tensor(leaf["bias"])
                h = F.conv2d(h, kernel.double(), bias.double(), padding=1).relu()
                index += 1
            features.append(h)
        return features

    means, covariances = [], []
    for x, y in zip(levels(image), levels(reference), strict=True):
        mx, my = x.mean((2, 3)), y.mean((2, 3))
        vx, vy = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
        means.append((2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6))
        covariances.append((2 * ((x * y).mean((2, 3)) - mx * my) + 1e-6) / (vx + vy + 1e-6))
    alpha, beta = torch.tensor(params["alpha"]).double(), torch.tensor(params["beta"]).double()
    similarity = (torch.cat(means, 1) * alpha + torch.cat(covariances, 1) * beta).sum()
    return 1 - (similarity / (alpha.sum() + beta.sum())).item()


@pytest.mark.slow
def test_equals_published(published_pair):
    image, truth, expected = published_pair
    # Most likely scored on a GPU, whose convolutions round their inputs.
    assert dists(image, truth) == pytest.approx(expected["DISTS"], abs=2e-4)


def test_equals_torch(pair):
    # float32 against float64 through 13 convolutions.
    assert dists(*pair) == pytest.approx(torch_dists(load_dists(), *pair), abs=1e-5)


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
