"""In which precision a stage computes, and what it keeps for the backward pass."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

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
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"

    def vae(self, config: AutoencoderKLConfig) -> AutoencoderKL:
        """Make a VAE."""
        return AutoencoderKL(config, jnp.dtype(self.dtype), self.remat)

    def unet(self, config: UNet2DConditionConfig) -> UNet2DConditionModel:
        """Make a UNet."""
        return UNet2DConditionModel(config, jnp.dtype(self.dtype), self.remat)

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
