"""LoRA by PEFT's names: found among a state dict's tensors, added to the weights, and kept in a folder of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from convert.layout import Tensors, finite
from convert.mapped import Refusal, brief, naming, printable
from convert.tensors import read_safetensors
from tvt_jax.unet_lora import LORA, LORA_PREFIX, LORA_WEIGHTS, read_lora_scale, write_lora

ALPHA = 8.0  # PEFT's default, which the release leaves as it is


@dataclass(frozen=True)
class LoRA:
    """One layer's low-rank branch, as PEFT keeps it: B A, scaled by alpha / rank.

    Attributes:
        a: (r, in) or (r, in, k, k).
        b: (out, r) or (out, r, 1, 1).
        alpha: PEFT's lora_alpha.
    """

    a: np.ndarray
    b: np.ndarray
    alpha: float = ALPHA

    @property
    def scale(self) -> float:
        """Factor on the branch."""
        return self.alpha / len(self.a)

    def delta(self) -> np.ndarray:
        """Compute what the branch adds to the layer's weight, float32, in its shape."""
        rank = len(self.a)
        scaled = np.float32(self.scale) * self.b.reshape(-1, rank).astype(np.float32)
        return (scaled @ self.a.reshape(rank, -1).astype(np.float32)).reshape(len(self.b), *self.a.shape[1:])


Branches = dict[str, LoRA]
"""By the name of the layer."""


@dataclass(frozen=True)
class FusedTensor:
    """A weight with its LoRA, added up only when it is asked for: a whole UNet of them need not fit into memory."""

    weight: "np.ndarray | FusedTensor"
    lora: LoRA

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return self.weight.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        fused = self.lora.delta()
        fused += np.asarray(self.weight)
        return fused.astype(dtype or np.float32, copy=False)


def fuse(tensors: Mapping[str, np.ndarray | FusedTensor], branches: Branches) -> dict[str, np.ndarray | FusedTensor]:
    """Give the tensors with the LoRA in them, more than one if need be."""
    lora = {f"{module}.weight": branch for module, branch in branches.items()}
    return {name: FusedTensor(tensor, lora[name]) if name in lora else tensor for name, tensor in tensors.items()}


def split_lora(tensors: Tensors, alpha: float = ALPHA) -> tuple[Tensors, Branches]:
    """Split a PEFT state dict into plain tensors by diffusers' names and the LoRA of each module.

    Raises:
        Refusal: an A has no B, or the other way round, a module has more than one adapter, DoRA's magnitudes, or a half
            is no matrix of floating-point numbers.
    """
    if dora := [name for name in tensors if ".lora_magnitude_vector" in name]:
        raise Refusal(f"has {printable(dora[0])} of DoRA, which is not read: merge it into the weights by PEFT first")
    plain: Tensors = {}
    halves: dict[str, dict[str, list[np.ndarray]]] = {"lora_A": {}, "lora_B": {}}
    for name, tensor in tensors.items():
        for half, found in halves.items():
            if f".{half}." in name:
                found.setdefault(name.split(f".{half}.")[0], []).append(tensor)
                break
        else:
            plain[name.replace(".base_layer.", ".")] = tensor
    a, b = halves["lora_A"], halves["lora_B"]
    if odd := [module for module in a | b if not len(a.get(module, ())) == len(b.get(module, ())) == 1]:
        raise Refusal(f"has LoRA of {printable(', '.join(sorted(odd)[:8]))} that is not one A and one B")
    for module, (x,) in [*a.items(), *b.items()]:
        if x.ndim not in (2, 4) or not jnp.issubdtype(x.dtype, jnp.floating):
            raise Refusal(f"has LoRA of {printable(module)} that is {x.dtype} of shape {x.shape}: it is damaged")
    return plain, {module: LoRA(a[module][0], b[module][0], alpha) for module in a}


def check_rank(lora: Branches, rank: Any) -> None:
    """Check that all branches have the rank that the file says.

    Raises:
        Refusal: they do not.
    """
    ranks = sorted({len(branch.a) for branch in lora.values()})
    if type(rank) is not int or ranks != [rank]:
        raise Refusal(f"says that its LoRA has rank {brief(rank)}, but holds ranks {ranks}")


def check_lora(lora: Branches, shapes: Mapping[str, tuple[int, ...]], origin: str) -> None:
    """Check that every branch fits the weight it belongs to.

    Raises:
        ValueError: some do not; the message names them.
    """

    def fits(module: str, branch: LoRA) -> bool:
        rank, point = len(branch.a), (1, 1) if branch.a.ndim == 4 else ()
        whole = (len(branch.b), *branch.a.shape[1:])
        return shapes.get(f"{module}.weight") == whole and branch.b.shape == (whole[0], rank, *point)

    if odd := [
        f"{module} (A {branch.a.shape}, B {branch.b.shape})"
        for module, branch in lora.items()
        if not fits(module, branch)
    ]:
        raise ValueError(f"{origin} has LoRA that fits no weight of the network: {', '.join(odd[:8])}")


def write_branches(folder: Path, branches: Branches) -> None:
    """Write the LoRA of the UNet into a model folder."""
    halves = {f"{module}.lora_A.weight": branch.a for module, branch in branches.items()}
    halves |= {f"{module}.lora_B.weight": branch.b for module, branch in branches.items()}
    ((rank, alpha),) = {(len(branch.a), branch.alpha) for branch in branches.values()}
    write_lora(folder, finite(halves, LORA), rank, alpha)


def read_branches(folder: Path) -> Branches:
    """Read the LoRA of a model folder's UNet; none, if it has none of its own.

    Raises:
        ValueError: the folder of the LoRA holds other tensors too, or LoRA that is not read.
    """
    if not (folder / LORA).is_dir():
        return {}
    tensors = read_safetensors(folder / LORA / LORA_WEIGHTS)
    with naming(folder / LORA):
        plain, branches = split_lora({name.removeprefix(LORA_PREFIX): tensor for name, tensor in tensors.items()})
        if plain:
            raise Refusal(f"holds more than LoRA: {printable(', '.join(sorted(plain)[:8]))}")
    scale = read_lora_scale(folder, {len(branch.a) for branch in branches.values()})
    return {name: LoRA(branch.a, branch.b, scale * len(branch.a)) for name, branch in branches.items()}
