"""Model folder -> PyTorch files."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from convert.hub_page import write_front
from convert.json_file import read_json
from convert.layout import Tensors, finite
from convert.lora import ALPHA, Branches, LoRA, check_lora, fuse, read_branches
from convert.prediction import write_scheduler
from convert.room import check_apart, room_for
from convert.tensors import read_safetensors
from convert.torch_writer import write_torch
from convert.tvt import LORA_LISTS, VAE_PREFIX
from tvt_jax.model_folder import CARD, PROMPTS, WEIGHTS, read_prompts, replaced, require_model_folder
from tvt_jax.models.middle import has_middle, without_middle
from tvt_jax.tensors import write_tensors
from tvt_jax.unet_lora import LORA

_PARTS = ("vae", "vae_source", "unet", "text_encoder")
_RANK = 4  # the release's, where the LoRA is fused


def export_diffusers(model: Path, out: Path, dtype: str = "float32") -> None:
    """Write a folder that runs in stock diffusers without this package, and that still is a model folder.

    The networks load as AutoencoderKL, UNet2DConditionModel and CLIPTextModel, the whole as a pipeline of its own.

    Args:
        model: the model folder, by `import`, or by `train.py --export` from a checkpoint of any stage.
        out: the folder to write.
        dtype: float32, float16 or bfloat16.

    Raises:
        FileNotFoundError: `model` is not a model folder, or lacks files.
        FileExistsError: `out` holds something.
        ValueError: `out` lies within the model, its UNet attends within windows, or its prompts are broken.
    """
    _check(model, out)
    with room_for(out, _size(model, dtype)), replaced(out) as partial:
        for name in ("vae", "vae_source", "text_encoder"):
            if (model / name).is_dir():
                _export_network(model / name, partial / name, dtype)
        if (model / "unet").is_dir():
            _export_network(model / "unet", partial / "unet", dtype, read_branches(model))
            write_scheduler(partial)
        if (model / "tokenizer").is_dir():
            shutil.copytree(model / "tokenizer", partial / "tokenizer")
        for file in (CARD, PROMPTS):
            if (model / file).is_file():
                shutil.copyfile(model / file, partial / file)
        write_front(partial, model)


def _check(model: Path, out: Path) -> None:
    """Check that the model is whole, can be exported, and that its export takes the place of nothing."""
    require_model_folder(model)
    check_apart(out, model)
    _check_new(out)
    for part in ("vae", *(name for name in _PARTS[1:] if (model / name).is_dir())):
        if not ((model / part / "config.json").is_file() and any((model / part).glob("*.safetensors"))):
            raise FileNotFoundError(f"{model / part} lacks its config.json or weights: the model folder is not whole")
    _check_attention(model)
    read_prompts(model)
    if lora := read_branches(model):
        unet = read_safetensors(model / "unet" / WEIGHTS)
        check_lora(lora, {name: tensor.shape for name, tensor in unet.items()}, str(model / LORA))


def _check_new(out: Path) -> None:
    """Check that an export takes the place of nothing."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise FileExistsError(f"{out} is in the way: it holds something, and an export replaces nothing")


def _check_attention(model: Path) -> None:
    """Check that the UNet's attention is diffusers', which sees the whole picture."""
    file = model / "unet" / "config.json"
    if file.is_file() and any(windows := read_json(file).get("attention_windows") or ()):
        raise ValueError(
            f"{model} keeps attention within windows of {list(windows)} pixels, which diffusers would pass by without "
            "a word: it can only be run by tvt-jax"
        )


def _size(model: Path, dtype: str) -> int:
    """Give the bytes of the networks that are exported, in that type."""
    files = (file for part in _PARTS for file in (model / part).glob("*.safetensors"))
    numbers = sum(tensor.size for file in files for tensor in read_safetensors(file).values())
    return numbers * (4 if dtype == "float32" else 2)


def _export_network(source: Path, target: Path, dtype: str, fused: Branches | None = None) -> None:
    target.mkdir()
    shutil.copy(source / "config.json", target)
    for weights in source.glob("*.safetensors"):
        tensors = finite(fuse(read_safetensors(weights), fused or {}), source.name)
        write_tensors(target / weights.name, tensors, dtype)


def export_tvt(model: Path, out: Path) -> None:
    """Write the files of the TVT release, in float32; where the LoRA is fused, there is one of zeros in its place.

    Args:
        model: the model folder of a 4x VAE and a UNet whose first level and last are the new ones.
        out: the folder to write.

    Raises:
        FileNotFoundError: `model` is not a model folder, or has no UNet.
        FileExistsError: `out` holds something.
        ValueError: `out` lies within the model, its VAE has middle blocks, or its UNet attends within windows.
    """
    _check(model, out)
    if not (model / "unet").is_dir():
        raise FileNotFoundError(f"{model} has no UNet: the release is a VAE and a UNet")
    held = read_safetensors(model / "vae" / WEIGHTS)
    if has_middle(held):
        raise ValueError(
            f"{model} has a VAE with middle blocks, and the release's has none: it can be exported with "
            "--format diffusers only"
        )
    vae = _checked({f"{VAE_PREFIX}{name}": tensor for name, tensor in without_middle(held).items()}, "vae")
    unet = read_safetensors(model / "unet" / WEIGHTS)
    lora = lora_file(unet, read_branches(model))
    lora["state_dict_unet"] = _checked(lora["state_dict_unet"], "unet")
    needed = 4 * sum(tensor.size for part in (vae, unet, lora["state_dict_unet"]) for tensor in part.values())
    with room_for(out, needed), replaced(out) as partial:
        write_torch(partial / "vae.ckpt", {"state_dict": vae})
        (partial / "TVTUNet").mkdir()
        _export_network(model / "unet", partial / "TVTUNet" / "unet", "float32")
        write_torch(partial / "model_TVT.pkl", lora)


def _checked(tensors: Tensors, origin: str) -> Tensors:
    return {name: np.asarray(tensor, np.float32) for name, tensor in finite(tensors, origin).items()}


def lora_file(unet: Tensors, lora: Branches) -> dict[str, Any]:
    """Give the content of model_TVT.pkl: the LoRA, of zeros where there is none, and the layers trained whole."""
    rank = min((len(branch.a) for branch in lora.values()), default=_RANK)
    levels = 1 + max(int(name.split(".")[1]) for name in unet if name.startswith("up_blocks."))
    new = ("down_blocks.0.", f"up_blocks.{levels - 1}.", f"up_blocks.{levels - 2}.upsamplers.")
    modules: dict[str, list[str]] = {adapter: [] for adapter in LORA_LISTS}
    tensors: Tensors = {}
    for name, tensor in unet.items():
        module, leaf = name.rsplit(".", 1)
        has_lora = f"{module}.weight" in unet and unet[f"{module}.weight"].ndim > 1 and "time_emb" not in module
        if name.startswith(("conv_in.", "conv_out.", *new)):
            tensors[f"{module}.base_layer.{leaf}" if has_lora else name] = tensor.astype(np.float32, copy=False)
        if has_lora and leaf == "weight":
            adapter = adapter_of(name)
            modules[adapter].append(module)
            branch = lora.get(module) or _zero_lora(rank, tensor.shape)
            tensors[f"{module}.lora_A.{adapter}.weight"] = branch.a
            tensors[f"{module}.lora_B.{adapter}.weight"] = branch.b * np.float32(branch.alpha / ALPHA)
    lists = {LORA_LISTS[adapter]: names for adapter, names in modules.items()}
    return {**lists, "rank_unet": rank, "state_dict_unet": tensors}


def adapter_of(name: str) -> str:
    """Give the release's adapter that a module of the UNet belongs to."""
    if name.startswith(("down_blocks.", "conv_in.")):
        return "default_encoder"
    return "default_decoder" if name.startswith("up_blocks.") else "default_others"


def _zero_lora(rank: int, shape: tuple[int, ...]) -> LoRA:
    point = (1,) * (len(shape) - 2)
    return LoRA(np.zeros((rank, *shape[1:]), np.float32), np.zeros((shape[0], rank, *point), np.float32))
