"""What a network's blocks keep for the backward pass, by name."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

Block = TypeVar("Block", bound=type[nn.Module])

# `products` keeps the results of convolutions, dense layers and attention, and computes norms and activations again;
# `blocks` keeps only what goes into a residual block or transformer.
Remat = Literal["none", "products", "blocks"]

PRODUCT = "product"
_POLICIES: dict[Remat, Callable[..., Any]] = {
    "products": jax.checkpoint_policies.save_only_these_names(PRODUCT),
    "blocks": jax.checkpoint_policies.nothing_saveable,
}


def rematerialised(block: Block, remat: Remat) -> Block:
    """Give the block's class with everything but what `remat` keeps computed again in the backward pass."""
    return block if remat == "none" else nn.remat(block, policy=_POLICIES[remat], prevent_cse=True)


def product(x: Array) -> Array:
    """Mark a result that is dear to compute, for `products` to keep."""
    return checkpoint_name(x, PRODUCT)
