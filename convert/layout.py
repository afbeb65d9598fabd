"""Whether the tensors of a file are those of a network: every difference is told at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from convert.mapped import printable
from tvt_jax.models.shapes import Shapes

Tensors = dict[str, np.ndarray]

# What torch.compile and data parallelism put into names, and a counter of averaged models.
_COMPILED = "_orig_mod."
_PARALLEL = "module."
_COUNTER = "n_averaged"

_SHOWN = 8


def fit(tensors: Mapping[str, np.ndarray], shapes: Shapes, origin: str, ignored: Iterable[str] = ()) -> Tensors:
    """Give the tensors in the order and shapes of the network; 1x1 convolutions and linear layers pass for each other.

    Args:
        tensors: a state dict.
        shapes: the network's, by `tensor_shapes`.
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


def unwrapped(tensors: Tensors, origin: str) -> Tensors:
    """Give the tensors by the names they have where the network is neither compiled nor made parallel.

    Raises:
        ValueError: two tensors would get the same name.
    """
    result: Tensors = {}
    for name, tensor in tensors.items():
        plain = name.replace(_COMPILED, "")
        while plain.startswith(_PARALLEL):
            plain = plain.removeprefix(_PARALLEL)
        if plain in result:
            raise ValueError(f"{origin} holds {printable(plain)} twice, once within a compiled or parallel network")
        if plain != _COUNTER:
            result[plain] = tensor
    return result


@dataclass(frozen=True)
class Finite:
    """A tensor that is refused as it is asked for, if it holds anything but finite numbers.

    Attributes:
        tensor: an array, or what turns into one.
        name: of the tensor, for the message.
    """

    tensor: Any
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.tensor.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Give the numbers in that type.

        Raises:
            ValueError: some are NaN or infinite, or become so in that type.
        """
        given = np.asarray(self.tensor)
        with np.errstate(over="ignore"):
            array = np.asarray(given, dtype)
        if not np.isfinite(array).all():
            if np.isfinite(given).all():
                raise ValueError(f"{printable(self.name)} has numbers too large for {array.dtype}: take a wider type")
            raise ValueError(f"{printable(self.name)} holds NaN or infinite numbers: these weights are broken")
        return array


def finite(tensors: Mapping[str, Any], origin: str) -> dict[str, Finite]:
    """Let each of the tensors be refused by its name where it is not finite, once it is read."""
    return {name: Finite(tensor, f"{origin}: {name}") for name, tensor in tensors.items()}


def _reshaped(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    is_same_layer = {tensor.ndim, len(shape)} == {2, 4} and tensor.size == np.prod(shape, dtype=int)
    is_point = tensor.shape[2:] in ((), (1, 1)) and shape[2:] in ((), (1, 1))
    return tensor.reshape(shape) if is_same_layer and is_point and tensor.shape[:2] == shape[:2] else tensor


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{len(names)} {what}: {', '.join(map(printable, names[:_SHOWN]))}{more}"]
