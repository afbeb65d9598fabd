"""In which precision a stage computes, and what it keeps for the backward pass."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import PyTree

from tvt_jax.models.layers import GroupNorm
from tvt_jax.models.remat import Remat
from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How networks are run in training.

    Attributes:
        dtype: of convolutions, dense layers and attention, and of the frozen kernels in memory. Trained parameters,
            norms, softmax and losses are float32 in any case.
        remat: what residual blocks and transformers keep for the backward pass: everything, the products that are dear
            to compute again, or only what goes in.
        norm_margin: share of each side of a feature map that group norms leave out. What convolutions make of the zeros
            about an image can be loud; a network that finds it in its norms reads brightness off it, and is lost where
            they see the picture and not its border, as in `tvt_jax.inference`.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"
    norm_margin: float = 0.0

    def vae(self, config: AutoencoderKLConfig) -> AutoencoderKL:
        """Make a VAE."""
        return AutoencoderKL(config, jnp.dtype(self.dtype), self.remat)

    def unet(self, config: UNet2DConditionConfig) -> UNet2DConditionModel:
        """Make a UNet."""
        return UNet2DConditionModel(config, jnp.dtype(self.dtype), self.remat)

    def norms(self) -> AbstractContextManager[None]:
        """Let the group norms of all networks that are applied meanwhile leave out the margin."""
        return nn.intercept_methods(self._leave_out_margin) if self.norm_margin else nullcontext()

    def _leave_out_margin(
        self, proceed: Callable, inputs: tuple, options: dict, context: nn.module.InterceptorContext
    ) -> Any:
        if not isinstance(context.module, GroupNorm) or context.method_name != "__call__":
            return proceed(*inputs, **options)
        (x,) = inputs
        rows, columns = (math.ceil(self.norm_margin * side) for side in x.shape[1:3])
        return proceed(x, context.module.moments_of(x[:, rows : x.shape[1] - rows, columns : x.shape[2] - columns]))

    def hold(self, params: PyTree) -> PyTree:
        """Give frozen parameters (arrays or shapes) as they lie in memory: kernels in `dtype`."""
        if self.dtype == "float32":
            return params
        return jax.tree.map(partial(_cast_kernel, dtype=jnp.dtype(self.dtype)), params)


def _cast_kernel(leaf: PyTree, dtype: jnp.dtype) -> PyTree:
    if leaf.ndim < 2:
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, dtype)
    return leaf.astype(dtype)
