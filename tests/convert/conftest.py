"""A small Stable Diffusion in a diffusers folder, with a tokenizer of single letters, and a small TVT release."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel

from convert import tvt
from tests.convert.small import PARTS, UNET, VAE_D4, random_tensors, save


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


@pytest.fixture
def release(tmp_path, monkeypatch):
    """The release's folder with small networks: LoRA of rank 4 on two layers, one of which is trained besides."""
    monkeypatch.setattr(tvt, "VAE_D4", VAE_D4)
    folder, unet = tmp_path / "ckp", random_tensors(UNET, 1)
    vae = {f"vaeDe4.{name}": torch.from_numpy(x) for name, x in random_tensors(VAE_D4, 2).items()}
    save(folder / "TVTUNet" / "unet" / "diffusion_pytorch_model.safetensors", unet)
    (folder / "TVTUNet" / "unet" / "config.json").write_text(json.dumps(UNET.to_json()))
    torch.save({"state_dict": vae | {"vae.other": torch.zeros(3)}, "global_step": 7}, folder / "vae.ckpt")
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    query = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    lora = {
        "conv_in.base_layer.weight": draw(4, 4, 3, 3),
        "conv_in.base_layer.bias": draw(4),
        "conv_in.lora_A.default_encoder.weight": draw(4, 4, 3, 3),
        "conv_in.lora_B.default_encoder.weight": draw(4, 4, 1, 1),
        f"{query}.lora_A.default_others.weight": draw(4, 8),
        f"{query}.lora_B.default_others.weight": draw(8, 4),
    }
    lists: dict = {f"unet_lora_{part}_modules": [] for part in ("encoder", "decoder", "others")}
    torch.save({**lists, "rank_unet": 4, "state_dict_unet": lora}, folder / "model_TVT.pkl")
    return folder
