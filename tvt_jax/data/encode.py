"""Encode the texts of training images, once a distinct text, for training to take them as prompts.

    python -m tvt_jax.data.encode --model models/sd21 --data DIR --out PROMPTS

DIR is what DataConfig's `path` takes, more than one if need be. The same command goes on where it was cut off, and
encodes what is new when texts have changed.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from tqdm import tqdm

from tvt_jax.data.prompts import ENCODER, add_part, read_rows
from tvt_jax.data.sources import distinct_texts
from tvt_jax.files import write_whole
from tvt_jax.hub import fetch
from tvt_jax.model_folder import read_text_encoder
from tvt_jax.place import local_only
from tvt_jax.tokenizer import TOKENS, Tokenizer, encode_prompts

PART = 512  # texts that are lost at most when the command is cut off


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What to encode.

    Attributes:
        model: Model folder with a text encoder, or hf://OWNER/NAME.
        data: Folders of photos with texts, or of tiles of them.
        out: Folder to write to; what it holds already is not encoded again.
        batch: Texts that are encoded together.
    """

    model: Path
    data: tuple[str, ...]
    out: Path
    batch: int = 16

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch {self.batch} must be 1 or more")


def encode(config: EncodeConfig) -> tuple[int, int, int]:
    """Encode the distinct texts of the data, and the empty one.

    Returns:
        How many were new, how many of these are longer than what is read of a text, and how many there are.

    Raises:
        FileNotFoundError: there are no images, or the model has no text encoder.
        ValueError: no image has a text, or `out` holds prompts of another text encoder.
    """
    local_only(config.out)
    texts = {text for path in config.data for text in distinct_texts(path)}
    if not texts - {""}:
        raise ValueError(f"no image of {', '.join(config.data)} has a text: python -m tvt_jax.data.caption writes some")
    model = fetch(config.model)
    _begin(config.out, model)
    todo = sorted((texts | {""}) - read_rows(config.out).keys())
    text_config, params = read_text_encoder(model)
    tokenizer, params = Tokenizer(model / "tokenizer"), jax.device_put(params)
    for start in tqdm(range(0, len(todo), PART), unit="part", disable=None):
        part = todo[start : start + PART]
        encoded = []
        for first in range(0, len(part), config.batch):
            batch = part[first : first + config.batch]
            # Filled up, the last batch needs no program of its own.
            filled = batch + [""] * (config.batch - len(batch))
            encoded.append(encode_prompts(filled, tokenizer, text_config, params)[: len(batch)])
        add_part(config.out, part, np.concatenate(encoded))
    return len(todo), sum(map(tokenizer.cuts, todo)), len(texts | {""})


def _begin(out: Path, model: Path) -> None:
    """Say whose prompts these are, or check that they are the same's."""
    with (model / "text_encoder" / "model.safetensors").open("rb") as file:
        encoder = {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    mark = out / ENCODER
    if mark.is_file() and json.loads(mark.read_text()) != encoder:
        raise ValueError(f"{out} holds prompts of another text encoder than {model}'s: choose another --out")
    if not mark.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FileExistsError(f"{out} is in the way: it holds no prompts")
        out.mkdir(parents=True, exist_ok=True)
        write_whole(mark, json.dumps(encoder) + "\n")


def main() -> None:
    """Encode what the command line asks for."""
    try:
        new, cut, all_texts = encode(tyro.cli(EncodeConfig, description=__doc__))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{new} of {all_texts} texts encoded")
    if cut:
        print(f"{cut} of them are longer than {TOKENS} tokens, and their ends are not read")


if __name__ == "__main__":
    main()
