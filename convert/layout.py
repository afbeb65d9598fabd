"""What tensors a network has, and whether those of a file are them: every difference is told at once."""

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tvt_jax.models.keys import tree_to_torch
from tvt_jax.models.text_encoder import CLIPTextConfig, CLIPTextModel
from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig

Config = AutoencoderKLConfig | UNet2DConditionConfig | CLIPTextConfig
Tensors = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

_SHOWN = 8


def expected_shapes(config: Config) -> Shapes:
    """Give diffusers' (transformers') name and shape of every tensor of a network, without making it."""
    params = jax.eval_shape(lambda: _initialise(config))["params"]
    return {name: tensor.shape for name, tensor in tree_to_torch(jax.tree.map(_stand_in, params)).items()}


def _initialise(config: Config) -> dict:
    rng, number = jax.random.key(0), jnp.zeros(1, int)
    match config:
        case AutoencoderKLConfig():
            side = 2 * config.downsampling
            return AutoencoderKL(config).init(rng, jnp.zeros((1, side, side, 3)))
        case UNet2DConditionConfig():
            side = 2 ** len(config.block_out_channels)
            latent = jnp.zeros((1, side, side, config.latent_channels))
            return UNet2DConditionModel(config).init(rng, latent, number, jnp.zeros((1, 1, config.cross_attention_dim)))
        case CLIPTextConfig():
            return CLIPTextModel(config).init(rng, number[None])


def _stand_in(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """An array of that shape that takes no memory."""
    return np.broadcast_to(np.float32(0), leaf.shape)


def fit(tensors: Mapping[str, np.ndarray], shapes: Shapes, origin: str, ignored: Iterable[str] = ()) -> Tensors:
    """Give the tensors in the order and shapes of the network; 1x1 convolutions and linear layers are one.

    Args:
        tensors: a state dict.
        shapes: the network's, by `expected_shapes`.
        origin: where the tensors are from, for the message.
        ignored: endings of names that may be there besides.

    Raises:
        ValueError: tensors are missing, of other shapes, not numbers, or not the network's.
    """
    extra = [name for name in tensors if name not in shapes and not name.endswith(tuple(ignored))]
    problems = _listed("missing", [name for name in shapes if name not in tensors]) + _listed("unknown", extra)
    found = {name: _reshaped(tensors[name], shape) for name, shape in shapes.items() if name in tensors}
    wrong = [f"{name} {found[name].shape}, not {shapes[name]}" for name in found if found[name].shape != shapes[name]]
    problems += _listed("of another shape", wrong)
    numbers = [f"{name} {x.dtype}" for name, x in found.items() if not jnp.issubdtype(x.dtype, jnp.floating)]
    problems += _listed("not floating-point", numbers)
    if problems:
        raise ValueError(f"{origin} does not hold this network: {'; '.join(problems)}")
    return found


def _reshaped(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    is_same_layer = {tensor.ndim, len(shape)} == {2, 4} and tensor.size == np.prod(shape, dtype=int)
    is_point = tensor.shape[2:] in ((), (1, 1)) and shape[2:] in ((), (1, 1))
    return tensor.reshape(shape) if is_same_layer and is_point and tensor.shape[:2] == shape[:2] else tensor


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}"]
