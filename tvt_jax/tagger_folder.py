"""The tagger folder: `config.json` and `model.safetensors` of the network, and in `tagger.json` its tags."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from tvt_jax.hub import fetch
from tvt_jax.model_folder import replaced
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.tagger import TaggerConfig
from tvt_jax.tensors import read_fields, read_json, read_weights, write_json, write_tensors

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "tagger.json"


@dataclass(frozen=True, kw_only=True)
class TaggerCard:
    """What a tagger knows, and where it came from (`tagger.json`).

    Attributes:
        tags: every tag, in the order of the logits, and the probability above which a picture has it.
        licence: licence of the weights and the tags.
        source: what they were made from.
    """

    tags: dict[str, float]
    licence: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class TaggerFolder:
    """A tagger in memory: its configuration, and a float32 parameter tree of numpy arrays."""

    config: TaggerConfig
    params: PyTree
    card: TaggerCard


def read_tagger(path: str | os.PathLike[str]) -> TaggerFolder:
    """Read a tagger folder, also from the hub (hf://OWNER/NAME).

    Raises:
        FileNotFoundError: the folder or a part of it is missing.
        ValueError: its parts are not of one network.
    """
    folder = fetch(path)
    require_tagger(folder)
    card, config = _read_card(folder / _CARD), TaggerConfig.from_json(read_json(folder / _CONFIG))
    if len(card.tags) != config.num_tags:
        raise ValueError(f"{folder} has {len(card.tags)} tags and a network for {config.num_tags}: it is damaged")
    tensors = read_weights(folder / _WEIGHTS)
    if tensor_shapes(config) != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ValueError(f"{folder / _WEIGHTS} does not hold the network of its {_CONFIG}: it is damaged")
    return TaggerFolder(config=config, params=tree_from_torch(tensors), card=card)


def require_tagger(folder: Path) -> None:
    """Raise FileNotFoundError for any other folder, or none."""
    if not (folder / _CARD).is_file():
        raise FileNotFoundError(
            f"{folder} is not a tagger folder, having no {_CARD}; `tvt convert import --ram` makes one"
        )


def _read_card(file: Path) -> TaggerCard:
    data = read_fields(file, TaggerCard)
    tags = data.get("tags")
    if not isinstance(tags, dict) or not all(isinstance(x, int | float) for x in tags.values()):
        raise ValueError(f"{file} does not give a threshold for each tag: it is damaged")
    return TaggerCard(**data)


def write_tagger(
    path: str | os.PathLike[str], config: TaggerConfig, tensors: Mapping[str, Any], card: TaggerCard
) -> None:
    """Write a tagger folder whole or not at all, in place of an older one; `tensors` by the published names.

    Raises:
        FileExistsError: there is something else in that place.
    """
    with replaced(path, _CARD) as folder:
        write_json(folder / _CONFIG, config.to_json())
        write_tensors(folder / _WEIGHTS, tensors, "float32")
        write_json(folder / _CARD, asdict(card))
