"""LoRA (arXiv 2106.09685) as a tree of its own beside frozen parameters: made, scaled and fused by pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PRNGKeyArray, PyTree

Path = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Size of LoRA.

    Attributes:
        rank: of each branch.
        alpha: its scale is alpha / rank (PEFT's default alpha is 8).
    """

    rank: int = 4
    alpha: float = 8.0

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank={self.rank} must be at least 1")

    @property
    def scale(self) -> float:
        """Factor on each branch."""
        return self.alpha / self.rank


def init_lora(
    rng: PRNGKeyArray, params: PyTree, rank: int, selects: Callable[[Path], bool] = lambda path: True
) -> PyTree:
    """Make the LoRA of every convolution and dense layer of `params` whose path `selects` accepts.

    A is drawn as PEFT draws it (Kaiming uniform, a = sqrt(5)), B is zero, so that the branch starts as nothing.
    The norms' scales and the embeddings carry none.
    """
    kernels = {path[:-1]: leaf for path, leaf in flatten_dict(params).items() if path[-1] == "kernel"}
    lora = {}
    for i, (path, kernel) in enumerate(sorted(kernels.items())):
        if not selects(path):
            continue
        *receptive, features_in, features_out = kernel.shape
        fan_in = features_in * (receptive[0] * receptive[1] if receptive else 1)
        bound = fan_in**-0.5
        shape_a = (*receptive, features_in, rank)
        shape_b = (*(1 for _ in receptive), rank, features_out)
        lora[(*path, "lora_A")] = jax.random.uniform(jax.random.fold_in(rng, i), shape_a, minval=-bound, maxval=bound)
        lora[(*path, "lora_B")] = jnp.zeros(shape_b)
    return unflatten_dict(lora)


def scale_lora(lora: PyTree, scale: float) -> PyTree:
    """Multiply every B by `scale` (lora_alpha / rank): the networks add the branch as it is."""
    flat = flatten_dict(lora)
    return unflatten_dict({path: leaf * scale if path[-1] == "lora_B" else leaf for path, leaf in flat.items()})


def fuse_lora(params: PyTree, lora: PyTree, scale: float = 1.0) -> PyTree:
    """Add scale * A B to each kernel, so that the network computes the same without the `lora` collection.

    Raises:
        ValueError: there is LoRA of a layer that the network does not have.
    """
    fused: dict[Path, Any] = flatten_dict(params)
    flat = flatten_dict(lora)
    for path, lora_a in flat.items():
        if path[-1] == "lora_A":
            kernel = (*path[:-1], "kernel")
            if kernel not in fused:
                raise ValueError(f"there is LoRA of {'.'.join(path[:-1])}, which the network does not have")
            fused[kernel] = fused[kernel] + scale * low_rank_kernel(lora_a, flat[(*path[:-1], "lora_B")])
    return unflatten_dict(fused)


def low_rank_kernel(lora_a: Array | np.ndarray, lora_b: Array | np.ndarray) -> Array | np.ndarray:
    """Multiply A by B, to the kernel that both amount to: (..., in, r) x (1, 1, r, out) or (in, r) x (r, out)."""
    return lora_a @ lora_b.reshape(lora_b.shape[-2:])
