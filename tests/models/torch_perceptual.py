"""LPIPS and DISTS in torch as published, given our parameters and images in [-1, 1], NCHW.

In float64, twice the precision of the float32 under test, so that only its rounding is measured.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# LPIPS takes the features behind these layers of torchvision's `features`.
ALEX_TAPS, VGG_TAPS = (1, 4, 7, 9, 11), (3, 8, 15, 22, 29)
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


def with_weights(network: nn.Sequential, params: dict[str, Any]) -> nn.Sequential:
    """Give the network a backbone's parameters."""
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    for index, layer in enumerate(convolutions):
        leaf = params[f"conv_{index}"]
        layer.weight.data = torch.tensor(leaf["kernel"].transpose(3, 2, 0, 1))
        layer.bias.data = torch.tensor(leaf["bias"])
    return network.to(DTYPE).requires_grad_(False)


def torch_features(network: nn.Sequential, taps: tuple[int, ...], x: torch.Tensor) -> list[torch.Tensor]:
    """What comes out of the layers `taps`."""
    features = []
    for index, layer in enumerate(network):
        x = layer(x)
        if index in taps:
            features.append(x)
    return features


def torch_lpips(
    network: nn.Sequential, taps: tuple[int, ...], params: dict[str, Any], x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """LPIPS v0.1: unit-normalise each feature, weigh the squared difference, average over pixels."""
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=DTYPE).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450], dtype=DTYPE).view(1, 3, 1, 1)
    pairs = zip(*(torch_features(network, taps, (image - shift) / scale) for image in (x, y)), strict=True)
    total = torch.zeros(len(x), dtype=DTYPE)
    for level, pair in enumerate(pairs):
        u, v = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in pair)
        head = torch.tensor(params[f"head_{level}"]["kernel"], dtype=DTYPE).view(1, -1, 1, 1)
        total = total + ((u - v).square() * head).sum(1).mean((1, 2))
    return total


def torch_l2_pool(x: torch.Tensor) -> torch.Tensor:
    """Root of the Hann-weighted mean square."""
    window = torch.tensor(np.outer(*[np.hanning(5)[1:-1]] * 2))
    window = (window / window.sum()).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x**2, window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


def torch_dists(params: dict[str, Any], image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """DISTS of each pair of images."""

    def levels(image: torch.Tensor) -> list[torch.Tensor]:
        x = (image + 1) / 2
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
    similarity = (torch.cat(means, 1) * alpha + torch.cat(covariances, 1) * beta).sum(1)
    return 1 - similarity / (alpha.sum() + beta.sum())
