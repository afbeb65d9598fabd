"""From a prompt to its embedding: CLIP's tokenizer, read from a folder, and the text encoder run on its tokens."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tokenizers
from jaxtyping import Float, Int32, PyTree
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from tvt_jax.models.text_encoder import CLIPTextConfig, CLIPTextModel

TOKENS = 77
_LFS = b"version https://git-lfs"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """CLIP's tokenizer (arXiv 2103.00020): byte-level BPE of lower-cased words, as transformers runs it.

    Args:
        folder: holds tokenizer.json or vocab.json and merges.txt, and what tokenizer_config.json and
            special_tokens_map.json say of the padding: SD 1.x pads with the end token, SD 2.1 with "!", which in
            the text of a prompt is padding too.

    Raises:
        FileNotFoundError: the folder or its vocabulary is missing.
        ValueError: the vocabulary is not CLIP's, or a file is not what its name says.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        model, added = _read_vocabulary(Path(folder))
        special, padding = _read_special_tokens(Path(folder), added)
        names = {_START, _END, padding}
        ids = {name: number for name in names if (number := model.token_to_id(name)) is not None}
        if absent := names - ids.keys():
            raise ValueError(f"{folder} is not CLIP's tokenizer: its vocabulary lacks {sorted(absent)}")
        self._tokenizer = _clip_pipeline(model, (_START, ids[_START]), (_END, ids[_END]))
        self._tokenizer.add_tokens(special)
        self._tokenizer.enable_truncation(TOKENS)
        self._tokenizer.enable_padding(length=TOKENS, pad_id=ids[padding], pad_token=padding)

    def __call__(self, *prompts: str) -> Int32[np.ndarray, "b 77"]:
        """Give each prompt's start token, up to 75 tokens of text, end token and padding."""
        rows = [self._tokenizer.encode(prompt).ids for prompt in prompts]
        return np.array(rows, np.int32).reshape(-1, TOKENS)

    def cuts(self, prompt: str) -> bool:
        """Tell whether a prompt is longer than what is read of it."""
        return bool(self._tokenizer.encode(prompt).overflowing)


def encode_prompts(
    prompts: Sequence[str], tokenizer: Tokenizer, config: CLIPTextConfig, params: PyTree
) -> Float[np.ndarray, "n 77 d"]:
    """Embed prompts as SD's UNet takes them: the text encoder's last hidden states, normed, padding included.

    Raises:
        ValueError: tokenizer and text encoder are of different models.
    """
    tokens = tokenizer(*prompts)
    if tokens.max() >= config.vocab_size:
        raise ValueError(f"the tokenizer gives token {tokens.max()}, but the text encoder has only {config.vocab_size}")
    return np.asarray(CLIPTextModel(config).apply({"params": params}, jnp.asarray(tokens)))


def _clip_pipeline(model: BPE, start: tuple[str, int], end: tuple[str, int]) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(end, start, False, False)
    return tokenizer


def _read_vocabulary(folder: Path) -> tuple[BPE, list[AddedToken]]:
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    if not whole.is_file() and not (vocabulary.is_file() and merges.is_file()):
        raise FileNotFoundError(
            f"{folder} is not a tokenizer folder: it has neither tokenizer.json nor vocab.json and merges.txt"
        )
    for file in filter(Path.is_file, (whole, vocabulary, merges)):
        if file.read_bytes().startswith(_LFS):
            raise ValueError(f"{file} is a Git LFS pointer, not the file: fetch it by `git lfs pull`")
    try:
        if not whole.is_file():
            return BPE.from_file(str(vocabulary), str(merges), unk_token=_END, end_of_word_suffix="</w>"), []
        read = tokenizers.Tokenizer.from_file(str(whole))
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"the tokenizer in {folder} cannot be read: {error}") from error
    if not isinstance(read.model, BPE) or read.model.end_of_word_suffix != "</w>":
        raise ValueError(f"{whole} is not CLIP's tokenizer: not a BPE whose words end in </w>")
    return read.model, list(read.get_added_tokens_decoder().values())


def _read_special_tokens(folder: Path, added: list[AddedToken]) -> tuple[list[AddedToken], str]:
    """Give the tokens that text is searched for before it is cut into words, and the name of the padding."""
    config = _read_json(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in config:
        saved = sorted(config["added_tokens_decoder"].items(), key=lambda item: int(item[0]))
        added = [_added_token(token) for _, token in saved]
    else:
        # In this older layout SD 2.1 names two paddings: special_tokens_map.json has the last word.
        config |= _read_json(folder / "special_tokens_map.json")
    names = {"bos_token": _START, "eos_token": _END, "pad_token": _END}
    named = [_added_token(config.get(name) or default) for name, default in names.items()]
    return list({token.content: token for token in (*named, *added)}.values()), named[-1].content


def _added_token(value: str | dict[str, Any]) -> AddedToken:
    fields: dict[str, Any] = {"content": value} if isinstance(value, str) else value
    return AddedToken(**{"special": True} | {name: field for name, field in fields.items() if name != "__type"})


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{file} is not a JSON object: {error}") from error
