"""A small Stable Diffusion in a diffusers folder, with a tokenizer of single letters."""

import json

import numpy as np
import pytest
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel

from tests.convert.small import PARTS, random_tensors, save


@pytest.fixture
def tokenizer(tmp_path):
    folder = tmp_path / "sd" / "tokenizer"
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "!"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return folder


@pytest.fixture
def tensors():
    return {part: random_tensors(config) for part, config in PARTS.items()}


@pytest.fixture
def sd(tmp_path, tokenizer, tensors):
    folder = tmp_path / "sd"
    for part, config in PARTS.items():
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        save(folder / part / f"{stem}.safetensors", tensors[part])
        (folder / part / "config.json").write_text(json.dumps(config.to_json()))
    return folder


@pytest.fixture
def photo(tmp_path):
    rows, columns = np.mgrid[:80, :90] / 90
    pixels = np.stack([rows, columns, np.sin(20 * rows * columns) ** 2], axis=-1)
    Image.fromarray((255 * pixels).astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"
