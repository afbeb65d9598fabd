"""The model folder, the one format on disk for weights in use: diffusers' layout plus `tvt.json`."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float, PyTree

from tvt_jax.colour import ColorFix
from tvt_jax.diffusion import OneStep, Prediction
from tvt_jax.files import whole_folder
from tvt_jax.hub import find
from tvt_jax.models.keys import tree_from_torch, tree_to_torch
from tvt_jax.models.lora import fuse_lora
from tvt_jax.models.middle import has_middle, with_middle, without_middle
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.place import Place, place
from tvt_jax.tensors import read_fields, read_json, read_weights, write_json, write_tensors
from tvt_jax.unet_lora import LORA, read_lora

C = TypeVar("C", AutoencoderKLConfig, UNet2DConditionConfig, CLIPTextConfig)
Part = Literal["vae", "vae_source", "unet"]

WEIGHTS = "diffusion_pytorch_model.safetensors"
_TEXT_WEIGHTS = "model.safetensors"  # as transformers calls them
PROMPTS = "prompt_embedding.safetensors"
CARD = "tvt.json"

_CHOICES: dict[str, tuple[Any, ...]] = {
    "prediction": get_args(Prediction),
    "posterior": ("mean", "sample"),
    "color_fix": get_args(ColorFix),
}
_COUNTS = {"scale": range(1, 1 << 16), "smallest_side": range(1 << 16), "time_step": range(1000)}


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """How the model is to be run, and where it came from (`tvt.json`).

    Attributes:
        scale: enlargement it was trained for.
        smallest_side: pixels of the result's shorter side below which a picture is enlarged first, for networks that
            are good at the size they were trained on only; 0 takes pictures of every size as they are.
        time_step: the one step's time, in [0, 1000).
        prediction: what the UNet gives in that step.
        posterior: whether the latent is the posterior's mean or a sample.
        color_fix: default colour correction of the result.
        prompt: the text behind the prompt embedding.
        negative_prompt: the text behind the negative prompt embedding.
        licence: licence of the weights and of what they were trained on.
        source: what they were made by or from.
    """

    scale: int = 4
    smallest_side: int = 0
    time_step: int = 1
    prediction: Prediction = "noise"
    posterior: Literal["mean", "sample"] = "mean"
    color_fix: ColorFix = "adain"
    prompt: str = ""
    negative_prompt: str = ""
    licence: str = ""
    source: str = ""

    @property
    def step(self) -> OneStep:
        """How the one step is taken."""
        return OneStep(self.time_step, self.prediction)


@dataclass(frozen=True)
class Network(Generic[C]):
    """A network on its way from file to file: its shape, and its tensors by diffusers' names."""

    config: C
    tensors: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model in memory: configurations and float32 parameter trees of numpy arrays.

    Attributes:
        vae: the VAE in use; None where it was not asked for.
        unet: the UNet, with the LoRA that a folder may keep apart; None for a stage that trains the VAE alone.
        unet_lora: that LoRA, scaled, where it was asked for apart and is not in `unet`.
        vae_source: the 8x VAE that the VAE in use was transferred from, kept with the decoder stage's result.
        prompt_embedding: default prompt, (tokens, width).
        negative_prompt_embedding: negative prompt, (tokens, width).
    """

    card: ModelCard
    vae_config: AutoencoderKLConfig | None = None
    vae: PyTree | None = None
    unet_config: UNet2DConditionConfig | None = None
    unet: PyTree | None = None
    unet_lora: PyTree | None = None
    vae_source_config: AutoencoderKLConfig | None = None
    vae_source: PyTree | None = None
    prompt_embedding: Float[np.ndarray, "n d"] | None = None
    negative_prompt_embedding: Float[np.ndarray, "n d"] | None = None


def read_model(
    path: str | os.PathLike[str], parts: Collection[Part] = get_args(Part), *, lora_apart: bool = False
) -> ModelFolder:
    """Read a model folder, also hf://OWNER/NAME or gs://BUCKET/NAME; parameters of any float type become float32.

    Args:
        path: of the folder.
        parts: the networks to read, as far as they are there; the card and the prompts are read in any case.
        lora_apart: whether LoRA that lies beside the UNet is not to be added to it.

    Raises:
        FileNotFoundError: the folder or a part of it is missing.
        ValueError: a config asks for what the networks here cannot do.
    """
    folder = find(path)
    require_model_folder(folder)
    vae_config, vae = _read_vae(folder / "vae") if "vae" in parts else (None, None)
    source_config, source = _read_vae(folder / "vae_source") if _has("vae_source", folder, parts) else (None, None)
    unet_config, unet = _read_unet(folder) if _has("unet", folder, parts) else (None, None)
    lora = read_lora(folder) if unet_config else None
    if lora is not None and not lora_apart:
        unet, lora = fuse_lora(unet, lora), None
    prompts = read_prompts(folder)
    return ModelFolder(
        card=read_card(folder),
        vae_config=vae_config,
        vae=vae,
        unet_config=unet_config,
        unet=unet,
        unet_lora=lora,
        vae_source_config=source_config,
        vae_source=source,
        prompt_embedding=prompts.get("prompt"),
        negative_prompt_embedding=prompts.get("negative_prompt"),
    )


def _has(part: Part, folder: Place, parts: Collection[Part]) -> bool:
    return part in parts and (folder / part).is_dir()


def is_model_folder(folder: Place) -> bool:
    """Tell a model folder from others."""
    return (folder / CARD).is_file()


def keeps_lora(folder: Place) -> bool:
    """Tell whether a model folder keeps LoRA beside its UNet."""
    return (folder / LORA).is_dir()


def require_model_folder(folder: Place) -> None:
    """Raise FileNotFoundError for any other folder, or none."""
    if not is_model_folder(folder):
        raise FileNotFoundError(
            f"{folder} is not a model folder, having no {CARD}; `python -m convert import` makes one"
        )


def write_model(path: str | os.PathLike[str], folder: ModelFolder, dtype: str = "float32") -> None:
    """Write a model folder whole or not at all, in place of an older one; weights as float32, float16 or bfloat16.

    Raises:
        FileExistsError: there is something else in that place.
    """
    networks: dict[str, Network] = {
        part: Network(config, tree_to_torch(getattr(folder, part)))
        for part in get_args(Part)
        if (config := getattr(folder, f"{part}_config"))
    }
    prompts = {"prompt": folder.prompt_embedding, "negative_prompt": folder.negative_prompt_embedding}
    with replaced(path) as partial:
        write_parts(partial, folder.card, networks, prompts, dtype)


def write_parts(
    folder: Path,
    card: ModelCard,
    networks: Mapping[str, Network],
    prompts: Mapping[str, np.ndarray | None],
    dtype: str,
) -> None:
    """Write the files of a model folder into an empty one; networks and prompts are called as in the folder."""
    write_json(folder / CARD, asdict(card))
    for name, network in networks.items():
        tensors, config = network.tensors, network.config
        if isinstance(config, AutoencoderKLConfig):
            tensors = with_middle(config, tensors)
        (folder / name).mkdir()
        write_json(folder / name / "config.json", config.to_json())
        weights = _TEXT_WEIGHTS if isinstance(config, CLIPTextConfig) else WEIGHTS
        write_tensors(folder / name / weights, tensors, dtype)
    if embeddings := {name: value for name, value in prompts.items() if value is not None}:
        write_tensors(folder / PROMPTS, embeddings, "float32")


@contextmanager
def replaced(path: str | os.PathLike[str], mark: str = CARD) -> Iterator[Path]:
    """Give a folder to write into, which takes the place of an older one, told by its file `mark`, once all is written.

    Raises:
        FileExistsError: there is something else in that place.
    """
    target = place(path)
    if isinstance(target, Path) and target.is_symlink():
        target = target.resolve()  # the link stays, and what it leads to, on another disk maybe, is what is written
    if target.exists() and not (target / mark).is_file() and (target.is_file() or any(target.iterdir())):
        raise FileExistsError(f"{target} is in the way: it has no {mark} in it, and is not replaced")
    with whole_folder(target, last=mark) as partial:
        yield partial


def _read_vae(folder: Place) -> tuple[AutoencoderKLConfig, PyTree]:
    tensors = read_weights(folder / WEIGHTS)
    has_any = has_middle(tensors)
    if not has_any:
        tensors = without_middle(tensors)
    config = _read_config(partial(AutoencoderKLConfig.from_json, mid_block=has_any), folder / "config.json")
    return config, tree_from_torch(tensors)


def _read_unet(folder: Place) -> tuple[UNet2DConditionConfig, PyTree]:
    params = tree_from_torch(read_weights(folder / "unet" / WEIGHTS))
    return _read_config(UNet2DConditionConfig.from_json, folder / "unet" / "config.json"), params


def read_text_encoder(folder: Place) -> tuple[CLIPTextConfig, PyTree]:
    """Read a model folder's text encoder.

    Raises:
        ValueError: it has none.
    """
    if not (folder / "text_encoder").is_dir():
        raise ValueError(f"{folder} has no text encoder: models imported from Stable Diffusion have one")
    config = CLIPTextConfig.from_json(read_json(folder / "text_encoder" / "config.json"))
    return config, tree_from_torch(read_weights(folder / "text_encoder" / _TEXT_WEIGHTS))


def _read_config(from_json: Callable[[dict[str, Any]], C], file: Place) -> C:
    try:
        return from_json(read_json(file))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def read_card(folder: Place) -> ModelCard:
    """Read the card of a model folder.

    Raises:
        ValueError: it has fields, or values, that are not known here.
    """
    file = folder / CARD
    data = read_fields(file, ModelCard)
    if odd := {name: value for name, value in data.items() if not _is_sound(name, value)}:
        raise ValueError(f"{file} has {odd}: these are no values that such fields may have")
    return ModelCard(**data)


def _is_sound(name: str, value: Any) -> bool:
    """Tell whether a field of a card is of its kind, and within its range."""
    if name in _COUNTS:
        return type(value) is int and value in _COUNTS[name]
    return value in _CHOICES[name] if name in _CHOICES else type(value) is str


def read_prompts(folder: Place) -> dict[str, np.ndarray]:
    """Read the encoded prompts of a model folder, `prompt` and `negative_prompt`; none where there is no such file.

    Raises:
        ValueError: it holds others, or numbers that are not finite, or of another width than the UNet reads.
    """
    file, unet = folder / PROMPTS, folder / "unet" / "config.json"
    held = read_weights(file) if file.is_file() else {}
    width = read_json(unet).get("cross_attention_dim") if unet.is_file() else None
    for name, prompt in held.items():
        if name not in ("prompt", "negative_prompt") or prompt.ndim != 2 or width not in (None, prompt.shape[1]):
            raise ValueError(f"{file} has {name!r} of shape {prompt.shape}, which is no prompt that this UNet reads")
        if not np.isfinite(prompt).all():
            raise ValueError(f"{file}: {name} holds NaN or infinite numbers: it is broken")
    return held


def count_parameters(params: PyTree) -> int:
    """Count the numbers in a parameter tree."""
    return sum(leaf.size for leaf in flatten_dict(params).values())
