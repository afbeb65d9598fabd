"""The leaf rules between diffusers' tensor names and ours, both ways: renaming and transposing, no table.

`resnets.0.conv1.weight` (O I H W) is `resnets_0/conv1/kernel` (H W I O); a linear `weight` (O I) is a `kernel` (I O);
a norm's `weight` is a `scale`; biases keep their name.
"""

import re

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

Path = tuple[str, ...]

_EMBEDDINGS = ("token_embedding", "position_embedding")
_INDEXED = re.compile(r"(?<!linear)_(\d+)$")  # time_embedding.linear_1 is a name, not an item of a list


def from_torch(name: str, tensor: np.ndarray) -> tuple[Path, np.ndarray]:
    """Give our path and array (a view) for one tensor of a diffusers state dict."""
    *modules, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", name).split(".")
    if leaf != "weight":
        return (*modules, leaf), tensor
    if modules[-1] in _EMBEDDINGS:
        return (*modules, "embedding"), tensor
    if tensor.ndim == 1:
        return (*modules, "scale"), tensor
    return (*modules, "kernel"), tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T


def to_torch(path: Path, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Give the diffusers name and tensor (a view) for one of our parameters."""
    *modules, leaf = path
    is_weight = leaf in ("kernel", "scale", "embedding")
    name = ".".join([*(_INDEXED.sub(r".\1", module) for module in modules), "weight" if is_weight else leaf])
    if leaf == "kernel":
        return name, array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return name, array


def tree_from_torch(tensors: dict[str, np.ndarray]) -> PyTree:
    """Turn a diffusers state dict into a parameter tree."""
    return unflatten_dict(dict(from_torch(name, tensor) for name, tensor in tensors.items()))


def tree_to_torch(params: PyTree) -> dict[str, np.ndarray]:
    """Turn a parameter tree into a diffusers state dict."""
    return dict(to_torch(path, np.asarray(leaf)) for path, leaf in flatten_dict(params).items())


def lora_from_torch(tensors: dict[str, np.ndarray]) -> PyTree:
    """Turn PEFT's tensors, MODULE.lora_A.weight and MODULE.lora_B.weight, into the tree of `tvt_jax.models.lora`."""
    leaves = (from_torch(name, tensor) for name, tensor in tensors.items())
    return unflatten_dict({path[:-1]: leaf for path, leaf in leaves})
