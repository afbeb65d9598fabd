"""The TVT release: `vae.ckpt`, `TVTUNet/unet` and `model_TVT.pkl`, a PEFT LoRA with the fully trained layers in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from convert.layout import Tensors, expected_shapes, fit
from convert.sd import read_network
from convert.tensors import read_tensors, read_torch
from tvt_jax.model_folder import Network
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

VAE_D4 = AutoencoderKLConfig(block_out_channels=(128, 256, 256), mid_block=False)
LORA_ALPHA = 8.0  # PEFT's default, which the release leaves as it is

VAE_PREFIX = "vaeDe4."
# The release's adapters, and where the file lists their modules.
LORA_LISTS = {
    "default_encoder": "unet_lora_encoder_modules",
    "default_decoder": "unet_lora_decoder_modules",
    "default_others": "unet_lora_others_modules",
}


@dataclass(frozen=True)
class LoRA:
    """One layer's low-rank branch, as PEFT keeps it: B A, scaled by LORA_ALPHA / rank.

    Attributes:
        a: (r, in) or (r, in, k, k).
        b: (out, r) or (out, r, 1, 1).
    """

    a: np.ndarray
    b: np.ndarray

    @property
    def scale(self) -> float:
        """Factor on the branch."""
        return LORA_ALPHA / len(self.a)

    def delta(self) -> np.ndarray:
        """What the branch adds to the layer's weight, float32, in its shape."""
        rank = len(self.a)
        product = self.b.reshape(-1, rank).astype(np.float32) @ self.a.reshape(rank, -1).astype(np.float32)
        return (self.scale * product).reshape(len(self.b), *self.a.shape[1:])


@dataclass(frozen=True)
class FusedTensor:
    """A weight with its LoRA, added up only when it is asked for: a whole UNet of them need not fit into memory."""

    weight: np.ndarray
    lora: LoRA

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return self.weight.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return (self.weight.astype(np.float32) + self.lora.delta()).astype(dtype or np.float32, copy=False)


@dataclass(frozen=True)
class TVT:
    """The release: VAE-D4, and the UNet with its LoRA still apart."""

    vae: Network[AutoencoderKLConfig]
    unet: Network[UNet2DConditionConfig]
    lora: dict[str, LoRA]

    @cached_property
    def fused(self) -> dict[str, np.ndarray | FusedTensor]:
        """The UNet's tensors with the LoRA in them."""
        branches = {f"{module}.weight": lora for module, lora in self.lora.items()}
        return {
            name: FusedTensor(tensor, branches[name]) if name in branches else tensor
            for name, tensor in self.unet.tensors.items()
        }


def read_tvt(folder: Path) -> TVT:
    """Read the release's folder `ckp`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file does not hold what the release's does.
    """
    files = folder / "vae.ckpt", folder / "model_TVT.pkl"
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: {folder} is not the release's folder of checkpoints")
    vae = {
        name.removeprefix(VAE_PREFIX): tensor
        for name, tensor in read_tensors(files[0]).items()
        if name.startswith(VAE_PREFIX)
    }
    unet = read_network(folder / "TVTUNet" / "unet", UNet2DConditionConfig)
    trained, lora = split_lora(read_lora_file(files[1]))
    shapes = {name: tensor.shape for name, tensor in unet.tensors.items()}
    tensors = fit({**unet.tensors, **trained}, shapes, str(files[1]))
    check_lora(lora, shapes, str(files[1]))
    return TVT(
        vae=Network(VAE_D4, fit(vae, expected_shapes(VAE_D4), str(files[0]))),
        unet=Network(unet.config, tensors),
        lora=lora,
    )


def read_lora_file(file: Path) -> Tensors:
    """Give `state_dict_unet` of model_TVT.pkl."""
    content = read_torch(file)
    missing = {"state_dict_unet", "rank_unet", *LORA_LISTS.values()} - set(
        content if isinstance(content, Mapping) else ()
    )
    if missing:
        raise ValueError(f"{file} is not the release's model_TVT.pkl: it has no {', '.join(sorted(missing))}")
    tensors = content["state_dict_unet"]
    ranks = {len(tensor) for name, tensor in tensors.items() if ".lora_A." in name}
    if ranks != {content["rank_unet"]}:
        raise ValueError(f"{file} says that its LoRA has rank {content['rank_unet']}, but holds ranks {sorted(ranks)}")
    return tensors


def split_lora(tensors: Tensors) -> tuple[Tensors, dict[str, LoRA]]:
    """Split a PEFT state dict into plain tensors by diffusers' names and the LoRA of each module.

    Raises:
        ValueError: an A has no B, or the other way round, or a module has more than one adapter.
    """
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
        raise ValueError(f"the LoRA of {', '.join(sorted(odd)[:8])} is not one A and one B")
    return plain, {module: LoRA(a[module][0], b[module][0]) for module in a}


def check_lora(lora: dict[str, LoRA], shapes: Mapping[str, tuple[int, ...]], origin: str) -> None:
    """Check that every branch fits the weight it belongs to.

    Raises:
        ValueError: names those that do not.
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
        raise ValueError(f"{origin} has LoRA that fits no weight of the UNet: {', '.join(odd[:8])}")
