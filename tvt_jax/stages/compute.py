"""In which precision a stage computes, and what it keeps for the backward pass."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from tvt_jax.models.layers import GroupNorm, Moments, norms_by
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

    def __post_init__(self) -> None:
        if not 0 <= self.norm_margin < 0.5:
            raise ValueError(f"norm_margin={self.norm_margin} must be from 0 to less than .5: the middle must be left")

    def vae(self, config: AutoencoderKLConfig) -> AutoencoderKL:
        """Make a VAE."""
        return AutoencoderKL(config, jnp.dtype(self.dtype), self.remat)

    def unet(self, config: UNet2DConditionConfig) -> UNet2DConditionModel:
        """Make a UNet."""
        return UNet2DConditionModel(config, jnp.dtype(self.dtype), self.remat)

    def norms(self) -> AbstractContextManager[None]:
        """Let the group norms of all networks that are applied meanwhile leave out the margin."""
        return norms_by(self._moments_inside) if self.norm_margin else nullcontext()

    def _moments_inside(self, norm: GroupNorm, x: Array) -> Moments:
        # Of the smallest maps a pixel or two are left.
        rows, columns = (min(math.ceil(self.norm_margin * side), (side - 1) // 2) for side in x.shape[1:3])
        return norm.moments_of(x[:, rows : x.shape[1] - rows, columns : x.shape[2] - columns])

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
