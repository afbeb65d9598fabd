"""In which precision a stage computes, what it keeps for the backward pass, and the networks made so."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from tvt_jax.model_folder import ModelFolder, read_model
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

    def hold(self, frozen: dict[str, PyTree]) -> dict[str, PyTree]:
        """What a stage loads (arrays or shapes) as it lies in memory: kernels in `dtype`, but those of losses."""
        if self.dtype == "float32":
            return frozen
        cast = partial(_cast_kernel, dtype=jnp.dtype(self.dtype))
        return {name: part if name == "perceptual" else jax.tree.map(cast, part) for name, part in frozen.items()}


def _cast_kernel(leaf: PyTree, dtype: jnp.dtype) -> PyTree:
    if leaf.ndim < 2:
        return leaf
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, dtype)
    return leaf.astype(dtype)


def vae_shapes(config: AutoencoderKLConfig) -> PyTree:
    """Shapes of a VAE's parameters."""
    image = jax.ShapeDtypeStruct((1, 2 * config.downsampling, 2 * config.downsampling, 3), jnp.float32)
    return jax.eval_shape(AutoencoderKL(config).init, jax.random.key(0), image)["params"]


def unet_shapes(config: UNet2DConditionConfig) -> PyTree:
    """Shapes of a UNet's parameters."""
    latent = jax.ShapeDtypeStruct((1, 16, 16, config.latent_channels), jnp.float32)
    time, text = jnp.zeros(1, int), jax.ShapeDtypeStruct((1, 1, config.cross_attention_dim), jnp.float32)
    return jax.eval_shape(UNet2DConditionModel(config).init, jax.random.key(0), latent, time, text)["params"]


def read_source(
    path: str,
    vae: AutoencoderKLConfig | None = None,
    unet: UNet2DConditionConfig | None = None,
    vae_source: AutoencoderKLConfig | None = None,
) -> ModelFolder:
    """Read a model folder that a stage starts from, and hold it against the networks that the stage expects in it.

    Raises:
        FileNotFoundError: the folder is missing or incomplete.
        ValueError: it holds a network of another shape.
    """
    folder = read_model(path)
    for name, config in (("vae", vae), ("unet", unet), ("vae_source", vae_source)):
        if config is None:
            continue
        found = getattr(folder, f"{name}_config")
        if found != config:
            raise ValueError(f"{path} holds {found}, but the stage is configured for {config}")
        shapes = unet_shapes(config) if isinstance(config, UNet2DConditionConfig) else vae_shapes(config)
        _require_shapes(f"{path}/{name}", getattr(folder, name), shapes)
    return folder


def _require_shapes(path: str, params: PyTree, expected: PyTree) -> None:
    found, wanted = (
        {jax.tree_util.keystr(key, simple=True, separator="/"): leaf.shape for key, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (params, expected))
    )
    if differing := [name for name in sorted(found | wanted) if found.get(name) != wanted.get(name)]:
        name = differing[0]
        raise ValueError(
            f"{path}: {len(differing)} tensors are not as its config says, among them {name} "
            f"({found.get(name, 'absent')} in the file, {wanted.get(name, 'absent')} by the config)"
        )
