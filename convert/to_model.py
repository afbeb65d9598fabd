"""PyTorch checkpoints -> model folder."""

import math
import shutil
from pathlib import Path

import numpy as np

from convert.layout import finite
from convert.lora import Branches, fuse, write_branches
from convert.room import room_for
from convert.sd import StableDiffusion
from convert.tvt import read_tvt
from tvt_jax.model_folder import ModelCard, Network, replaced, write_parts
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.tokenizer import Tokenizer, encode_prompts

PROMPT = "clean, high-resolution, 8k,"  # the release's, without an image's own tags
# OSEDiff's and its successors'; the guidance of the VSD loss steers away from it.
NEGATIVE_PROMPT = (
    "painting, oil painting, illustration, drawing, art, sketch, cartoon, CG Style, 3D render, unreal engine, "
    "blurring, dirty, messy, worst quality, low quality, frames, watermark, signature, jpeg artifacts, deformed, "
    "lowres, over-smooth"
)
LICENCE = "CreativeML Open RAIL++-M (Stable Diffusion 2.1)"


def import_sd(sd: Path, out: Path, *, tokenizer: Path | None = None, prompt: str = PROMPT) -> list[str]:
    """Write Stable Diffusion 2.1 as a model folder, which the training stages start from; give notes of what to check.

    Raises:
        FileNotFoundError: a part of the checkpoint is missing.
        ValueError: a part is not what it should be, or it predicts something else than the noise.
        FileExistsError: `out` is something else than a model folder.
    """
    source = StableDiffusion(sd)
    card = ModelCard(
        source=f"Stable Diffusion, {sd.name}", prompt=prompt, negative_prompt=NEGATIVE_PROMPT, licence=LICENCE
    )
    _write(out, card, {"vae": source.vae, "unet": source.unet}, source, tokenizer)
    return source.notes


def import_tvt(
    tvt: Path, sd: Path, out: Path, *, tokenizer: Path | None = None, prompt: str = PROMPT, keep_lora: bool = False
) -> None:
    """Write the TVT release as a model folder, its LoRA fused or beside the UNet; SD gives it the text encoder.

    Raises:
        As `import_sd`.
    """
    release, source = read_tvt(tvt), StableDiffusion(sd)
    unet = release.unet if keep_lora else Network(release.unet.config, fuse(release.unet.tensors, release.lora))
    card = ModelCard(
        source=f"the TVT release, {tvt.name}, on Stable Diffusion, {sd.name}",
        posterior="sample",
        smallest_side=512,
        prompt=prompt,
        negative_prompt=NEGATIVE_PROMPT,
        licence=LICENCE,
    )
    _write(out, card, {"vae": release.vae, "unet": unet}, source, tokenizer, release.lora if keep_lora else {})


def _write(
    out: Path,
    card: ModelCard,
    networks: dict[str, Network],
    source: StableDiffusion,
    tokenizer: Path | None,
    lora: Branches | None = None,
) -> None:
    folder = tokenizer or source.tokenizer
    if folder is None:
        raise FileNotFoundError("this checkpoint has no tokenizer: give the folder of one with --tokenizer")
    networks = {**networks, "text_encoder": source.text_encoder}
    needed = sum(math.prod(x.shape) * 4 for network in networks.values() for x in network.tensors.values())
    with room_for(out, needed), replaced(out) as partial:
        prompts = _embed(source, Tokenizer(folder), {"prompt": card.prompt, "negative_prompt": card.negative_prompt})
        checked = {name: Network(x.config, finite(x.tensors, name)) for name, x in networks.items()}
        write_parts(partial, card, checked, prompts, "float32")
        if lora:
            write_branches(partial, lora)
        shutil.copytree(folder, partial / "tokenizer")


def _embed(source: StableDiffusion, tokenizer: Tokenizer, prompts: dict[str, str]) -> dict[str, np.ndarray | None]:
    config, params = source.text_encoder.config, tree_from_torch(dict(source.text_encoder.tensors))
    embeddings = encode_prompts(list(prompts.values()), tokenizer, config, params)
    return dict(zip(prompts, embeddings, strict=True))
