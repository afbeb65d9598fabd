"""Tensors of any size that are drawn when they are asked for."""

from typing import Any

import numpy as np

from tvt_jax.models.shapes import Shapes


class RandomTensor:
    """A tensor that is drawn when it is asked for, always the same."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        """Keep the name, which is the seed."""
        self.name, self.shape = name, shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Draw kernels as PyTorch initialises them; scales are about 1, biases about 0."""
        generator = np.random.default_rng(list(self.name.encode()))
        values = generator.random(self.shape, np.float32) * 2 - 1
        if len(self.shape) > 1:
            values /= np.sqrt(np.prod(self.shape[1:], dtype=np.float32))
        else:
            values = 0.05 * values + (1 if self.name.endswith("norm.weight") or "norm" in self.name[:-6] else 0)
        return values.astype(dtype or np.float32, copy=False)


def random_tensors(shapes: Shapes) -> dict[str, Any]:
    """Make a state dict of that layout."""
    return {name: RandomTensor(name, shape) for name, shape in shapes.items()}
