"""Another prompt than a model's own, for all pictures or for each, encoded by the text encoder in its folder."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from tvt_jax.inference.channels import resize
from tvt_jax.model_folder import ModelFolder, read_card, read_text_encoder, require_model_folder
from tvt_jax.place import Place, local_only
from tvt_jax.tagger import Tagger, as_prompt
from tvt_jax.tagger_folder import read_tagger
from tvt_jax.tokenizer import TOKENS, Tokenizer, encode_prompts

# Gives the prompt of a picture that is to be enlarged by a whole number, in words and encoded, (1, tokens, width).
Describe = Callable[[UInt8[np.ndarray, "h w 3"], int], tuple[str, Float[np.ndarray, "1 n d"]]]

_UNIT = 8  # what the release makes both sides of an enlarged picture multiples of


def with_prompt(folder: ModelFolder, path: Place, prompt: str) -> ModelFolder:
    """Give the model of the folder at `path` with `prompt` for its own.

    Raises:
        ValueError: the folder has no text encoder, or lies in a bucket, where no tokenizer is read.
    """
    if prompt == folder.card.prompt:
        return folder
    local_only(path)
    require_text_encoder(path)
    config, params = read_text_encoder(path)
    tokenizer = Tokenizer(path / "tokenizer")
    if tokenizer.cuts(prompt):
        warnings.warn(f"the prompt is longer than {TOKENS} tokens, and its end is not read", stacklevel=2)
    (embedding,) = encode_prompts([prompt], tokenizer, config, params)
    return replace(folder, prompt_embedding=embedding, card=replace(folder.card, prompt=prompt))


def describer(folder: ModelFolder, path: Place, tagger: Place, prompt: str | None) -> Describe:
    """Give what makes a prompt of each picture: its tags, and then `prompt`, or the model's own.

    Raises:
        FileNotFoundError: `tagger` is no tagger folder.
        ValueError: the model has no text encoder, or one of the two is damaged.
    """
    config, params = read_text_encoder(path)
    params = jax.device_put(params)
    tokenizer, tag = Tokenizer(path / "tokenizer"), Tagger(read_tagger(tagger))
    words = folder.card.prompt if prompt is None else prompt

    def describe(image: UInt8[np.ndarray, "h w 3"], scale: int) -> tuple[str, Float[np.ndarray, "1 n d"]]:
        (tags,) = tag([enlarge(image, scale)])
        prompt = as_prompt(tags, words)
        return prompt, encode_prompts([prompt], tokenizer, config, params)

    return describe


def enlarge(image: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Enlarge a picture to what the release shows its tagger."""
    height, width = (side * scale for side in image.shape[:2])
    enlarged = resize(image, (height, width), Image.Resampling.BICUBIC)
    size = max(height // _UNIT, 1) * _UNIT, max(width // _UNIT, 1) * _UNIT
    return enlarged if size == (height, width) else resize(enlarged, size, Image.Resampling.LANCZOS)


def require_text_encoder(path: Place) -> None:
    """Raise ValueError where a model folder cannot encode a prompt."""
    require_model_folder(path)
    if not (path / "text_encoder").is_dir():
        raise ValueError(f"this model has no text encoder and knows only its own prompt, '{read_card(path).prompt}'")
