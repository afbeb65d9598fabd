"""Which of a component's files hold its weights: diffusers and transformers write them under many names."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from tvt_jax.model_folder import CARD, PROMPTS
from tvt_jax.unet_lora import LORA

_STEM = "diffusion_pytorch_model"
_VARIANTS = ("", "fp16", "bf16")  # the full precision first; others, such as non_ema, are other weights
_STEMS = {_STEM: _STEM, "model": "pytorch_model"}  # of a .bin


def find_weights(folder: Path, stem: str) -> Path:
    """Find the weights in a component's folder: the full precision first, and safetensors before `.bin`.

    Args:
        folder: of the component.
        stem: the safetensors file's name, diffusion_pytorch_model or, of transformers' components, model.

    Raises:
        FileNotFoundError: there are none.
        ValueError: there are both one file and shards of the same, which may differ.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    found = best_weights(names, stem)
    if not found:
        looked = ", ".join(name for pair in _candidates(stem) for name in pair)
        raise FileNotFoundError(f"{folder} has no weights: none of {looked}")
    if len(found) > 1:
        raise ValueError(f"{folder} has both {' and '.join(found)}, which may differ: take one of them away")
    return folder / found[0]


def best_weights(names: Collection[str], stem: str) -> list[str]:
    """Give the first of the files' names that hold weights; two where there is a file and an index of shards too."""
    found = ([name for name in pair if name in names] for pair in _candidates(stem))
    return next((pair for pair in found if pair), [])


def shards_of(index: str, names: Collection[str]) -> list[str]:
    """Give the names of the shards that belong to an index, by their variant and format."""
    parts = re.fullmatch(r"(\w+)\.(safetensors|bin)\.index(?:\.(\w+))?\.json", index)
    if not parts:
        return []
    stem, suffix, variant = parts.groups()
    number = r"-\d+-of-\d+"
    # Between the stem and the number since transformers 4.4x and diffusers 0.28, before the suffix until then.
    marked = rf"(\.{variant}{number}|{number}\.{variant})" if variant else number
    return [name for name in names if re.fullmatch(rf"{stem}{marked}\.{suffix}", name)]


def needed_of_sd(files: Sequence[str], *, networks: bool = True) -> list[str]:
    """Choose of a Stable Diffusion on the hub, or of an export, one copy of each part.

    Args:
        files: names of all files there.
        networks: whether more is needed than what reads a prompt.
    """
    stems = {"text_encoder": "model"} | (dict.fromkeys(("vae", "vae_source", "unet"), _STEM) if networks else {})
    others = ("tokenizer/", "scheduler/", f"{LORA}/", CARD, PROMPTS) if networks else ("tokenizer/",)
    return [name for part, stem in stems.items() for name in _needed(files, part, stem)] + [
        name for name in files if name.startswith(others)
    ]


def needed_of_tvt(files: Sequence[str]) -> list[str]:
    """Choose of the TVT release on the hub its three parts."""
    return [name for name in files if name in ("vae.ckpt", "model_TVT.pkl")] + _needed(files, "TVTUNet/unet", _STEM)


def needed_of_reference(files: Sequence[str]) -> list[str]:
    """Choose of either what `verify` compares with."""
    return needed_of_tvt(files) if "vae.ckpt" in files else needed_of_sd(files)


def _needed(files: Sequence[str], folder: str, stem: str) -> list[str]:
    """Choose of a component its configuration and the weights that `find_weights` would take."""
    names = {path.name for path in map(PurePosixPath, files) if str(path.parent) == folder}
    weights = best_weights(names, stem)
    shards = [shard for name in weights for shard in shards_of(name, names)]
    return [f"{folder}/{name}" for name in ("config.json", *weights, *shards) if name in names]


def _candidates(stem: str) -> list[tuple[str, str]]:
    """Give the names of one file, and of the index of its shards, in the order of preference."""
    kinds = ((stem, "safetensors"), (_STEMS[stem], "bin"))
    return [
        (f"{name}.{variant}.{suffix}", f"{name}.{suffix}.index.{variant}.json")
        if variant
        else (f"{name}.{suffix}", f"{name}.{suffix}.index.json")
        for variant in _VARIANTS
        for name, suffix in kinds
    ]
