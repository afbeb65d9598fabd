"""Names and shapes of published checkpoints, where the checkout has them beside it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.models.keys import tree_from_torch

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "keys"
needed = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published tensor names are not here")


def shapes(name):
    """Torch name -> shape of every tensor."""
    return {key: tuple(shape) for key, shape in json.loads((FOLDER / f"{name}.json").read_text()).items()}


def tree(name, dtype=jnp.float32):
    """Our parameter tree of these shapes; no memory is taken."""
    arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes(name).items()}
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, dtype), tree_from_torch(arrays))
