"""RAM (`ram_swin_large_14m.pth`), the LoRA that makes DAPE of it, and its lists of tags and thresholds."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from convert.layout import Tensors, fit, unwrapped
from convert.lora import Branches, LoRA
from convert.mapped import map_file
from convert.tensors import read_tensors
from tvt_jax.models.shapes import Shapes, tensor_shapes
from tvt_jax.models.tagger import TaggerConfig

CONFIG = TaggerConfig()
TAGS_SHA256 = "5d96d2f7225527480ad773aaac76b6e5c08a18adf6eae9ca7d2ab923d5e7bd8b"
THRESHOLDS_SHA256 = "b6f81d0de1bc7f9c251af512c413eae976c77dbfbadf700d4e3d90510f4c6447"

# The captioner, the parts of BERT that RAM takes out of its decoder, and buffers that are computed here.
_UNUSED = re.compile(
    r"(tag_encoder|text_decoder)\..+"
    r"|tagging_head\.(embeddings\..+|encoder\.layer\.\d+\.attention\..+)"
    r"|.+\.(attn_mask|relative_position_index|position_ids)"
)
_OLD_HEAD = "vision_multi."  # what RAM's own loader renames
# loralib's, as DAPE was trained.
_RANK, _SCALE = 8, 1 / 8
_CAPTIONERS_LORA = re.compile(r"(tag_encoder|text_decoder)\..+\.lora_[AB]")
_ATTENTION = re.compile(r"tagging_head\.(encoder\.layer\.\d+\.crossattention\.self\.(query|key))\.weight")
_TWIN = "tag_encoder."


def name_ram(tensors: Iterable[str]) -> str | None:
    """Tell by their names RAM's tensors, or DAPE's; None of all others."""
    names = set(tensors)
    if {"label_embed", "wordvec_proj.weight"} <= names:
        return "RAM's file: import it with --ram, --tags and --thresholds"
    if any(name.startswith("visual_encoder.") and name.endswith("attn.qkv.lora_A") for name in names):
        return "DAPE's file: import it with --dape, beside --ram"
    return None


def read_ram(file: Path) -> Tensors:
    """Give the tensors of RAM that tagging needs.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it does not hold RAM.
    """
    tensors = unwrapped(read_tensors(file), str(file))
    renamed = {re.sub(f"^{re.escape(_OLD_HEAD)}", "tagging_head.", name): x for name, x in tensors.items()}
    used = {name: tensor for name, tensor in renamed.items() if not _UNUSED.fullmatch(name)}
    return fit(used, tensor_shapes(CONFIG), str(file))


def read_dape(file: Path) -> Branches:
    """Give DAPE's LoRA by the names of the layers it is added to.

    Query and value of the image encoder's attention have a branch each within one layer, and none is for its keys.
    RAM's captioner shares two layers with the decoder, and has branches of its own on them: those are added too.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it does not hold DAPE.
    """
    tensors = unwrapped(read_tensors(file), str(file))
    held = fit(_needed_of_dape(tensors), _dape_shapes(tensors), str(file))
    layers = {name.rpartition(".")[0] for name in held}
    swin = {name: _query_and_value(*_halves(held, name)) for name in layers if name.startswith("visual_encoder.")}
    head = {name for name in layers if name.startswith("tagging_head.")}
    twins = {f"tagging_head.{name.removeprefix(_TWIN)}" for name in layers if name.startswith(_TWIN)}
    return swin | {name: _sum(held, layers & {name, _twin(name)}) for name in sorted(head | twins)}


def read_tags(tags: Path, thresholds: Path) -> dict[str, float]:
    """Give RAM's tags in the order of its logits, each with its threshold.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: it is not the published one.
    """
    names = _published(tags, TAGS_SHA256, "list of tags").splitlines()
    numbers = _published(thresholds, THRESHOLDS_SHA256, "list of thresholds").split()
    return dict(zip(names, map(float, numbers), strict=True))


def _published(file: Path, expected: str, what: str) -> str:
    content = bytes(map_file(file))
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise ValueError(f"{file} is not RAM's {what}: its SHA-256 is {found}, not {expected}")
    return content.decode()


def _needed_of_dape(tensors: Tensors) -> Tensors:
    """Leave out the captioner's branches, but for those on the layers that it shares with the decoder."""
    shared = {
        _twin(match[0].removesuffix(".weight")) for match in map(_ATTENTION.fullmatch, tensor_shapes(CONFIG)) if match
    }
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not _CAPTIONERS_LORA.fullmatch(name) or name.rpartition(".")[0] in shared
    }


def _dape_shapes(tensors: Iterable[str]) -> Shapes:
    """Give the shapes of what a DAPE must hold: the image encoder's, and the decoder's if it has any of it."""
    shapes: Shapes = {}
    parts = {name.partition(".")[0] for name in tensors}
    for name, (rows, *columns) in tensor_shapes(CONFIG).items():
        layer = name.removesuffix(".weight")
        if name.endswith(".attn.qkv.weight"):
            shapes |= {f"{layer}.lora_A": (2 * _RANK, *columns), f"{layer}.lora_B": (rows * 2 // 3, _RANK)}
        elif _ATTENTION.fullmatch(name):
            for one in (layer, _twin(layer)):
                if one.partition(".")[0] in parts:
                    shapes |= {f"{one}.lora_A": (_RANK, *columns), f"{one}.lora_B": (rows, _RANK)}
    return shapes


def _twin(layer: str) -> str:
    return layer.replace("tagging_head.", _TWIN, 1)


def _halves(tensors: Tensors, layer: str) -> tuple[np.ndarray, np.ndarray]:
    return tensors[f"{layer}.lora_A"], tensors[f"{layer}.lora_B"]


def _query_and_value(a: np.ndarray, b: np.ndarray) -> LoRA:
    """Make one branch of twice the rank of the two, with rows of zeros for the keys."""
    query, value = np.split(np.asarray(b, np.float32), 2)
    nothing = np.zeros_like(query)
    rows = [[query, nothing], [nothing, nothing], [nothing, value]]
    return LoRA(a, np.block(rows), alpha=_SCALE * len(a))


def _sum(tensors: Tensors, layers: set[str]) -> LoRA:
    """Make one branch of all those on a layer."""
    halves = [_halves(tensors, layer) for layer in sorted(layers)]
    a, b = (np.concatenate(parts, axis) for axis, parts in enumerate(zip(*halves, strict=True)))
    return LoRA(a, b, alpha=_SCALE * len(a))
