"""Stable Diffusion 2.1 as it is distributed: a diffusers folder, or the original single file."""

import json
import re
from functools import cached_property
from pathlib import Path

from convert.layout import Tensors, fit
from convert.ldm import UNET, is_ldm, split_ldm
from convert.tensors import find_weights, read_tensors
from tvt_jax.model_folder import C, Network
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

_STEM = "diffusion_pytorch_model"

# Buffers that are computed here, and names of the VAE's attention before diffusers 0.18.
_BUFFERS = ("position_ids",)
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class StableDiffusion:
    """A diffusers folder, or the single file in Latent Diffusion's names; each network is read when it is asked for.

    Raise FileNotFoundError where one is missing, and ValueError where it is not the network it should be.

    Attributes:
        tokenizer: its folder; the single file has none in it.
    """

    def __init__(self, path: Path) -> None:
        """Find out what is there, and map the single file."""
        self._path = path
        self._parts = None if path.is_dir() else _read_single(path)
        self.tokenizer = path / "tokenizer" if (path / "tokenizer").is_dir() else None

    @cached_property
    def vae(self) -> Network[AutoencoderKLConfig]:
        """The 8x VAE."""
        return self._read("vae", AutoencoderKLConfig)

    @cached_property
    def unet(self) -> Network[UNet2DConditionConfig]:
        """The UNet."""
        return self._read("unet", UNet2DConditionConfig)

    @cached_property
    def text_encoder(self) -> Network[CLIPTextConfig]:
        """CLIP's text encoder."""
        return self._read("text_encoder", CLIPTextConfig, "model")

    def _read(self, part: str, kind: type[C], stem: str = _STEM) -> Network[C]:
        if self._parts is None:
            return read_network(self._path / part, kind, stem)
        return _network(kind(), self._parts[part], f"{self._path} ({part})")


def _read_single(path: Path) -> dict[str, Tensors]:
    tensors = read_tensors(path)
    if not is_ldm(tensors):
        raise ValueError(f"{path} is not a Stable Diffusion checkpoint: no tensor's name begins with {UNET}")
    return split_ldm(tensors)


def read_network(folder: Path, kind: type[C], stem: str = _STEM) -> Network[C]:
    """Read config.json and the weights of a component's folder, however they are stored.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: the weights are not those of the network that config.json describes.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: {folder} is not a component of a diffusers model")
    config = kind.from_json(json.loads(file.read_text()))
    return _network(config, read_tensors(find_weights(folder, stem)), str(folder))


def _network(config: C, tensors: Tensors, origin: str) -> Network[C]:
    renamed = {modern_name(name): tensor for name, tensor in tensors.items()}
    return Network(config, fit(renamed, tensor_shapes(config), origin, ignored=_BUFFERS))


def modern_name(name: str) -> str:
    """Give today's name of a tensor of the VAE's attention; other names stay."""
    return re.sub(
        r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)", lambda match: _OLD_ATTENTION[match[1]], name
    )
