"""Random checkpoints at full size, in the published files' own formats, to measure what `convert` makes of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.random_weights import RandomTensor, random_tensors
from convert.layout import Tensors
from convert.lora import Branches, LoRA
from convert.to_torch import lora_file
from convert.torch_writer import write_torch
from convert.tvt import VAE_D4, VAE_PREFIX
from tvt_jax.models.shapes import Config, tensor_shapes
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.student import add_level
from tvt_jax.weights import write_tensors

SD_UNET = UNet2DConditionConfig()
TVT_UNET = add_level(SD_UNET, CROSS_ATTENTION_BLOCK)
RANK = 4


def write_component(folder: Path, config: Config, dtype: str) -> None:
    """Write a component of a diffusers folder."""
    stem = "model" if isinstance(config, CLIPTextConfig) else "diffusion_pytorch_model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    write_tensors(folder / f"{stem}.safetensors", random_tensors(tensor_shapes(config)), dtype)


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer that knows single letters."""
    letters = list(map(chr, range(33, 127)))
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def write_sd(folder: Path) -> None:
    """Write Stable Diffusion 2.1 as a diffusers folder in float16."""
    for name, config in (("vae", AutoencoderKLConfig()), ("unet", SD_UNET), ("text_encoder", CLIPTextConfig())):
        write_component(folder / name, config, "float16")
    write_tokenizer(folder / "tokenizer")


def write_tvt(folder: Path) -> None:
    """Write the TVT release: vae.ckpt, TVTUNet/unet and model_TVT.pkl, float32, with LoRA that counts."""
    write_component(folder / "TVTUNet" / "unet", TVT_UNET, "float32")
    vae = {name: np.asarray(tensor) for name, tensor in random_tensors(tensor_shapes(VAE_D4)).items()}
    write_torch(folder / "vae.ckpt", {"state_dict": {VAE_PREFIX + name: tensor for name, tensor in vae.items()}})
    unet: Tensors = {
        name: np.asarray(RandomTensor(f"trained {name}", shape)) for name, shape in tensor_shapes(TVT_UNET).items()
    }
    branches: Branches = dict(_branches(lora_file(unet, {})["state_dict_unet"]))
    write_torch(folder / "model_TVT.pkl", lora_file(unet, branches))


def write_missing(work: Path) -> tuple[Path, Path]:
    """Write both where they are not yet; return their folders."""
    folders = work / "sd", work / "ckp"
    for folder, write in zip(folders, (write_sd, write_tvt), strict=True):
        if not folder.exists():
            write(folder)
    return folders


def _branches(tensors: Tensors) -> Iterator[tuple[str, LoRA]]:
    for name, a in tensors.items():
        if ".lora_A." in name:
            b = tensors[name.replace(".lora_A.", ".lora_B.")]
            random_a, random_b = (np.asarray(RandomTensor(f"{name} {half.shape}", half.shape)) for half in (a, b))
            yield name.split(".lora_A.")[0], LoRA(random_a, 0.1 * random_b)
