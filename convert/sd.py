"""Stable Diffusion 2.1 as it is distributed: a diffusers folder, or the original single file."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from convert.layout import Tensors, expected_shapes, fit
from convert.ldm import is_ldm, split_ldm
from convert.tensors import find_weights, read_tensors
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

C = TypeVar("C", AutoencoderKLConfig, UNet2DConditionConfig, CLIPTextConfig)

# Buffers that are computed here, and names of the VAE's attention before diffusers 0.18.
_BUFFERS = ("position_ids",)
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class Component(Generic[C]):
    """A network of a checkpoint: its shape, and its tensors by diffusers' names, mapped from the file."""

    config: C
    tensors: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StableDiffusion:
    """What is read of a Stable Diffusion checkpoint; the single file has no tokenizer in it."""

    vae: Component[AutoencoderKLConfig]
    unet: Component[UNet2DConditionConfig]
    text_encoder: Component[CLIPTextConfig]
    tokenizer: Path | None


def read_sd(path: Path) -> StableDiffusion:
    """Read a diffusers folder, or the single file in Latent Diffusion's names.

    Raises:
        FileNotFoundError: the path or a part of the folder is missing.
        ValueError: a config or the tensors are not those of the networks here.
    """
    if path.is_dir():
        return StableDiffusion(
            vae=read_component(path / "vae", AutoencoderKLConfig),
            unet=read_component(path / "unet", UNet2DConditionConfig),
            text_encoder=read_component(path / "text_encoder", CLIPTextConfig, stem="model"),
            tokenizer=path / "tokenizer" if (path / "tokenizer").is_dir() else None,
        )
    tensors = read_tensors(path)
    if not is_ldm(tensors):
        raise ValueError(
            f"{path} is not a Stable Diffusion checkpoint: no tensor's name begins with model.diffusion_model"
        )
    parts = split_ldm(tensors)
    return StableDiffusion(
        vae=_component(AutoencoderKLConfig(), parts["vae"], f"{path} (first_stage_model)"),
        unet=_component(UNet2DConditionConfig(), parts["unet"], f"{path} (model.diffusion_model)"),
        text_encoder=_component(CLIPTextConfig(), parts["text_encoder"], f"{path} (cond_stage_model)"),
        tokenizer=None,
    )


def read_component(folder: Path, kind: type[C], stem: str = "diffusion_pytorch_model") -> Component[C]:
    """Read config.json and the weights of a component's folder, however they are stored."""
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: {folder} is not a component of a diffusers model")
    config = kind.from_json(json.loads(file.read_text()))
    return _component(config, read_tensors(find_weights(folder, stem)), str(folder))


def _component(config: C, tensors: Tensors, origin: str) -> Component[C]:
    renamed = {modern_name(name): tensor for name, tensor in tensors.items()}
    return Component(config, fit(renamed, expected_shapes(config), origin, ignored=_BUFFERS))


def modern_name(name: str) -> str:
    """Give today's name of a tensor of the VAE's attention; other names stay."""
    return re.sub(
        r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)", lambda match: _OLD_ATTENTION[match[1]], name
    )
