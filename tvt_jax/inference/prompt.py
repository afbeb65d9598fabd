"""Another prompt than a model's own, encoded by the text encoder in its folder."""

import json
from dataclasses import replace

from tvt_jax.model_folder import ModelFolder, read_weights
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.place import Place, local_only
from tvt_jax.tokenizer import Tokenizer, encode_prompts


def with_prompt(folder: ModelFolder, path: Place, prompt: str) -> ModelFolder:
    """Give the model of the folder at `path` with `prompt` for its own.

    Raises:
        ValueError: the folder has no text encoder, or lies in a bucket, where no tokenizer is read.
    """
    if prompt == folder.card.prompt:
        return folder
    local_only(path)
    if not (path / "text_encoder").is_dir():
        raise ValueError(f"this model has no text encoder and knows only its own prompt, '{folder.card.prompt}'")
    config = CLIPTextConfig.from_json(json.loads((path / "text_encoder" / "config.json").read_text()))
    params = tree_from_torch(read_weights(path / "text_encoder" / "model.safetensors"))
    (embedding,) = encode_prompts([prompt], Tokenizer(path / "tokenizer"), config, params)
    return replace(folder, prompt_embedding=embedding, card=replace(folder.card, prompt=prompt))
