"""Another prompt than a model's own, for all pictures or for each, encoded by the text encoder in its folder."""

import json
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float, PyTree, UInt8
from PIL import Image

from tvt_jax.inference.channels import resize
from tvt_jax.model_folder import ModelFolder
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.place import Place, local_only
from tvt_jax.tagger import Tagger, as_prompt
from tvt_jax.tagger_folder import read_tagger
from tvt_jax.tokenizer import Tokenizer, encode_prompts
from tvt_jax.weights import read_weights

# Gives the encoded prompt, (1, tokens, width), of a picture that is to be enlarged by a whole number.
Describe = Callable[[UInt8[np.ndarray, "h w 3"], int], Float[np.ndarray, "1 n d"]]

_UNIT = 8  # what the release makes both sides of an enlarged picture multiples of


def with_prompt(folder: ModelFolder, path: Place, prompt: str) -> ModelFolder:
    """Give the model of the folder at `path` with `prompt` for its own.

    Raises:
        ValueError: the folder has no text encoder, or lies in a bucket, where no tokenizer is read.
    """
    if prompt == folder.card.prompt:
        return folder
    local_only(path)
    config, params = _read_text_encoder(folder, path)
    (embedding,) = encode_prompts([prompt], Tokenizer(path / "tokenizer"), config, params)
    return replace(folder, prompt_embedding=embedding, card=replace(folder.card, prompt=prompt))


def describer(folder: ModelFolder, path: Place, tagger: Place, prompt: str | None) -> Describe:
    """Give what makes a prompt of each picture: its tags, and then `prompt`, or the model's own.

    Raises:
        FileNotFoundError: `tagger` is no tagger folder.
        ValueError: the model has no text encoder.
    """
    config, params = _read_text_encoder(folder, path)
    params = jax.device_put(params)
    tokenizer, tag = Tokenizer(path / "tokenizer"), Tagger(read_tagger(tagger))
    words = folder.card.prompt if prompt is None else prompt

    def describe(image: UInt8[np.ndarray, "h w 3"], scale: int) -> Float[np.ndarray, "1 n d"]:
        (tags,) = tag([enlarge(image, scale)])
        return encode_prompts([as_prompt(tags, words)], tokenizer, config, params)

    return describe


def enlarge(image: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Enlarge a picture to what the release shows its tagger."""
    height, width = (side * scale for side in image.shape[:2])
    enlarged = resize(image, (height, width), Image.Resampling.BICUBIC)
    size = max(height // _UNIT, 1) * _UNIT, max(width // _UNIT, 1) * _UNIT
    return enlarged if size == (height, width) else resize(enlarged, size, Image.Resampling.LANCZOS)


def _read_text_encoder(folder: ModelFolder, path: Place) -> tuple[CLIPTextConfig, PyTree]:
    if not (path / "text_encoder").is_dir():
        raise ValueError(f"this model has no text encoder and knows only its own prompt, '{folder.card.prompt}'")
    config = CLIPTextConfig.from_json(json.loads((path / "text_encoder" / "config.json").read_text()))
    return config, tree_from_torch(read_weights(path / "text_encoder" / "model.safetensors"))
