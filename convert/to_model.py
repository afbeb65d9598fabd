"""PyTorch checkpoints -> model folder."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convert.layout import finite
from convert.lora import Branches, check_lora, fuse, read_branches, write_branches
from convert.osediff import read_osediff
from convert.pisasr import read_pisasr
from convert.room import check_apart, room_for
from convert.sd import StableDiffusion, read_network
from convert.to_tagger import ReadTagger
from convert.tvt import read_tvt
from tvt_jax.model_folder import (
    ModelCard,
    Network,
    is_model_folder,
    read_card,
    read_prompts,
    replaced,
    write_parts,
)
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.middle import has_middle, without_middle
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.tokenizer import TOKENS, Tokenizer, encode_prompts
from tvt_jax.unet_lora import LORA

PROMPT = "clean, high-resolution, 8k,"  # the release's, without an image's own tags
# OSEDiff's and its successors'; the guidance of the VSD loss steers away from it.
NEGATIVE_PROMPT = (
    "painting, oil painting, illustration, drawing, art, sketch, cartoon, CG Style, 3D render, unreal engine, "
    "blurring, dirty, messy, worst quality, low quality, frames, watermark, signature, jpeg artifacts, deformed, "
    "lowres, over-smooth"
)
TAGGER = "tagger"  # within a model folder
LICENCE = "CreativeML Open RAIL++-M (Stable Diffusion 2.1)"


Prompts = dict[str, np.ndarray | None]


def import_sd(sd: Path, out: Path, *, tokenizer: Path | None = None, prompt: str | None = None) -> list[str]:
    """Write Stable Diffusion 2.1 as a model folder, which the training stages start from; give notes of what to check.

    An export of a model folder becomes what it was, with its card and its prompts.

    Raises:
        FileNotFoundError: a part of the checkpoint is missing.
        ValueError: a part is not what it should be, or it predicts something else than the noise.
        FileExistsError: `out` is something else than a model folder.
    """
    source = StableDiffusion(sd)
    if is_model_folder(sd):
        _import_again(sd, source, out, tokenizer, prompt)
    else:
        card = ModelCard(
            source=f"Stable Diffusion, {sd.name}",
            prompt=PROMPT if prompt is None else prompt,
            negative_prompt=NEGATIVE_PROMPT,
            licence=LICENCE,
        )
        _write_with_text(out, card, {"vae": source.vae, "unet": source.unet}, source, tokenizer)
    return source.notes


def import_tvt(
    tvt: Path,
    sd: Path,
    out: Path,
    *,
    tokenizer: Path | None = None,
    prompt: str | None = None,
    keep_lora: bool = False,
    tagger: ReadTagger | None = None,
) -> list[str]:
    """Write the TVT release as a model folder, its LoRA fused or beside the UNet; give notes of what to check.

    Stable Diffusion gives it the text encoder. A tagger that was read goes into the folder `tagger/` within it.

    Raises:
        As `import_sd`.
    """
    release, source = read_tvt(tvt), StableDiffusion(sd)
    unet = release.unet if keep_lora else Network(release.unet.config, fuse(release.unet.tensors, release.lora))
    card = ModelCard(
        source=f"the TVT release, {tvt.name}, on Stable Diffusion, {sd.name}",
        posterior="sample",
        smallest_side=512,
        prompt=PROMPT if prompt is None else prompt,
        negative_prompt=NEGATIVE_PROMPT,
        licence=LICENCE,
    )
    lora = release.lora if keep_lora else {}
    _write_with_text(out, card, {"vae": release.vae, "unet": unet}, source, tokenizer, lora, tagger)
    return source.notes


def import_osediff(
    osediff: Path,
    sd: Path,
    out: Path,
    *,
    tokenizer: Path | None = None,
    prompt: str | None = None,
    tagger: ReadTagger | None = None,
) -> list[str]:
    """Write OSEDiff as a model folder, its LoRA fused into Stable Diffusion's networks; give notes of what to check.

    A tagger that was read goes into the folder `tagger/` within it.

    Raises:
        As `import_sd`.
    """
    source = StableDiffusion(sd)
    networks = read_osediff(osediff, source).fused()
    # Its own prompt is the tags of each picture, a comma, a user's words, of which there are none, and a comma.
    card = _card("OSEDiff", osediff, sd, time_step=999, prompt="," if prompt is None else prompt)
    _write_with_text(out, card, networks, source, tokenizer, tagger=tagger)
    return source.notes


def import_pisasr(
    pisasr: Path, sd: Path, out: Path, *, tokenizer: Path | None = None, prompt: str | None = None
) -> list[str]:
    """Write PiSA-SR as a model folder, the pixel adapter fused, the semantic one beside the UNet; give notes to check.

    Raises:
        As `import_sd`.
    """
    source = StableDiffusion(sd)
    read = read_pisasr(pisasr, source)
    card = _card("PiSA-SR", pisasr, sd, time_step=1, prediction="residual", prompt=prompt or "")
    _write_with_text(out, card, read.fused(), source, tokenizer, read.semantic)
    return source.notes


def _card(method: str, file: Path, sd: Path, **how: Any) -> ModelCard:
    return ModelCard(
        source=f"{method}, {file.name}, on Stable Diffusion, {sd.name}",
        posterior="sample",
        smallest_side=512,
        negative_prompt=NEGATIVE_PROMPT,
        licence=f"{LICENCE}; the LoRA: as {method} says",
        **how,
    )


def _import_again(folder: Path, source: StableDiffusion, out: Path, tokenizer: Path | None, prompt: str | None) -> None:
    """Write a model folder, such as an export, again; with another prompt, if one is asked for."""
    check_apart(out, folder)
    card, lora = read_card(folder), read_branches(folder)
    networks: dict[str, Network] = {}
    for part in ("vae", "vae_source"):
        if part == "vae" or (folder / part).is_dir():
            networks[part] = _without_empty_middle(read_network(folder / part, AutoencoderKLConfig))
    if lora or (folder / "unet").is_dir():
        networks["unet"] = source.unet
    if lora:
        check_lora(lora, {name: x.shape for name, x in networks["unet"].tensors.items()}, str(folder / LORA))
    if prompt is not None and prompt != card.prompt:
        _write_with_text(out, replace(card, prompt=prompt), networks, source, tokenizer, lora)
        return
    if (folder / "text_encoder").is_dir():
        networks["text_encoder"] = source.text_encoder
    held = read_prompts(folder)
    _write(out, card, networks, lambda: dict(held), tokenizer or source.tokenizer, lora)


def _without_empty_middle(vae: Network[AutoencoderKLConfig]) -> Network[AutoencoderKLConfig]:
    if has_middle(vae.tensors):
        return vae
    return Network(replace(vae.config, mid_block=False), without_middle(vae.tensors))


def _write_with_text(
    out: Path,
    card: ModelCard,
    networks: dict[str, Network],
    source: StableDiffusion,
    tokenizer: Path | None,
    lora: Branches | None = None,
    tagger: ReadTagger | None = None,
) -> None:
    folder = tokenizer or source.tokenizer
    if folder is None:
        raise FileNotFoundError("this checkpoint has no tokenizer: give the folder of one with --tokenizer")
    networks = {**networks, "text_encoder": source.text_encoder}
    if (read := Tokenizer(folder)).cuts(card.prompt):
        source.notes.append(f"the prompt is longer than {TOKENS} tokens, and its end is not read")
    _write(out, card, networks, lambda: _embed(source, read, card), folder, lora, tagger)


def _write(
    out: Path,
    card: ModelCard,
    networks: dict[str, Network],
    prompts: Callable[[], Prompts],
    tokenizer: Path | None,
    lora: Branches | None,
    tagger: ReadTagger | None = None,
) -> None:
    needed = sum(math.prod(x.shape) * 4 for network in networks.values() for x in network.tensors.values())
    needed += tagger.size if tagger else 0
    with room_for(out, needed), replaced(out) as partial:
        checked = {name: Network(x.config, finite(x.tensors, name)) for name, x in networks.items()}
        write_parts(partial, card, checked, prompts(), "float32")
        if lora:
            write_branches(partial, lora)
        if tokenizer:
            shutil.copytree(tokenizer, partial / "tokenizer")
        if tagger:
            tagger.write(partial / TAGGER)


def _embed(source: StableDiffusion, tokenizer: Tokenizer, card: ModelCard) -> Prompts:
    prompts = {"prompt": card.prompt, "negative_prompt": card.negative_prompt}
    config, params = source.text_encoder.config, tree_from_torch(dict(source.text_encoder.tensors))
    embeddings = encode_prompts(list(prompts.values()), tokenizer, config, params)
    return dict(zip(prompts, embeddings, strict=True))
