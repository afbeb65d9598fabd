"""Stable Diffusion 2.1 as it is distributed: a diffusers folder, or the original single file."""

import re
from functools import cached_property
from pathlib import Path

from convert.json_file import read_json
from convert.layout import Tensors, fit, unwrapped
from convert.ldm import check_ldm, split_ldm
from convert.mapped import naming
from convert.prediction import check_scheduler, check_single_file
from convert.tensors import read_metadata, read_tensors
from convert.weights import find_weights
from tvt_jax.model_folder import C, Network, is_model_folder
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

_STEM = "diffusion_pytorch_model"

# A buffer that is computed here, and the projection of a CLIPTextModelWithProjection, which Stable Diffusion passes by.
_UNUSED = ("embeddings.position_ids", "text_projection.weight")
# The VAE's attention before diffusers 0.18.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class StableDiffusion:
    """A diffusers folder, or the single file in Latent Diffusion's names; each network is read when it is asked for.

    Raise FileNotFoundError where one is missing, and ValueError where it is not the network it should be.

    Attributes:
        tokenizer: its folder; the single file has none in it.
        notes: what could not be checked of the networks that were asked for.
    """

    def __init__(self, path: Path) -> None:
        """Find out what is there, and map the single file."""
        self._path = path
        self._single = None if path.is_dir() else _read_single(path)
        self.notes: list[str] = []
        self.tokenizer = path / "tokenizer" if (path / "tokenizer").is_dir() else None

    @cached_property
    def vae(self) -> Network[AutoencoderKLConfig]:
        """The 8x VAE."""
        return self._read("vae", AutoencoderKLConfig)

    @cached_property
    def unet(self) -> Network[UNet2DConditionConfig]:
        """The UNet, which predicts the noise."""
        if not is_model_folder(self._path) and (note := self._check_prediction()):
            self.notes.append(note)
        return self._read("unet", UNet2DConditionConfig)

    @cached_property
    def text_encoder(self) -> Network[CLIPTextConfig]:
        """CLIP's text encoder."""
        return self._read("text_encoder", CLIPTextConfig, "model")

    def _check_prediction(self) -> str | None:
        if self._single is None:
            return check_scheduler(self._path)
        return check_single_file(self._path, read_metadata(self._path), self._single)

    def _read(self, part: str, kind: type[C], stem: str = _STEM) -> Network[C]:
        if self._single is None:
            return read_network(self._path / part, kind, stem)
        return _network(kind(), split_ldm(self._single)[part], f"{self._path} ({part})")


def _read_single(path: Path) -> Tensors:
    tensors = unwrapped(read_tensors(path), str(path))
    with naming(path):
        check_ldm(tensors)
    return tensors


def read_network(folder: Path, kind: type[C], stem: str = _STEM) -> Network[C]:
    """Read config.json and the weights of a component's folder, however they are stored.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: the weights are not those of the network that config.json describes.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: {folder} is not a component of a diffusers model")
    content = read_json(file)
    try:
        config = kind.from_json(content)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return _network(config, read_tensors(find_weights(folder, stem)), str(folder))


def _network(config: C, tensors: Tensors, origin: str) -> Network[C]:
    rename, unused = (text_name, _UNUSED) if isinstance(config, CLIPTextConfig) else (modern_name, ())
    renamed = {rename(name): tensor for name, tensor in unwrapped(tensors, origin).items()}
    return Network(config, fit(renamed, tensor_shapes(config), origin, ignored=unused))


def modern_name(name: str) -> str:
    """Give today's name of a tensor of the VAE's attention; other names stay."""
    return re.sub(
        r"(?<=attentions\.0\.)(query|key|value|proj_attn)(?=\.)", lambda match: _OLD_ATTENTION[match[1]], name
    )


def text_name(name: str) -> str:
    """Give the text encoder's tensor its name of transformers before 5, which says `text_model.` before all of them."""
    return name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}"
