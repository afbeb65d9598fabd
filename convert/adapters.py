"""Files of LoRA by which OSEDiff and PiSA-SR adapt Stable Diffusion: which tensors must be in them, and no others."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convert.layout import Tensors, unwrapped
from convert.lora import Branches, check_lora, check_rank, fuse, split_lora
from convert.mapped import Refusal, brief, map_file, naming
from convert.tensors import read_tensors
from convert.torch_file import is_torch, read_torch
from tvt_jax.model_folder import Network
from tvt_jax.models.shapes import Shapes
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

UNET, VAE = "state_dict_unet", "state_dict_vae"
_PARTS = ("encoder", "decoder", "others")
# The layers that both give LoRA: by a part of their weight's name.
_LAYERS = re.compile(r"to_[qkv]|to_out\.0|conv|proj_in|proj_out|ff\.net\.(2|0\.proj)")
_ADAPTER = re.compile(r"\.lora_[AB]\.([^.]+)\.weight$")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of the method.
        option: of `convert import`.
        entries: that the file has.
        optional: that it may have besides; it has no others.
        adapters: of PEFT's, in the UNet.
    """

    name: str
    option: str
    entries: frozenset[str]
    optional: frozenset[str] = frozenset()
    adapters: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """Stable Diffusion's networks, and the LoRA that adapts them.

    Attributes:
        vae: without its LoRA.
        unet: without its LoRA, but with what is trained whole.
        vae_lora: of the VAE.
        unet_lora: of the UNet, to be added to its weights.
        semantic: of the UNet too, to be kept beside it.
    """

    vae: Network[AutoencoderKLConfig]
    unet: Network[UNet2DConditionConfig]
    vae_lora: Branches = field(default_factory=dict)
    unet_lora: Branches
    semantic: Branches = field(default_factory=dict)

    def fused(self) -> dict[str, Network]:
        """Give both networks with the LoRA in them, but for the semantic one."""
        return {
            "vae": Network(self.vae.config, fuse(self.vae.tensors, self.vae_lora)),
            "unet": Network(self.unet.config, fuse(self.unet.tensors, self.unet_lora)),
        }


def _lists(suffix: str = "") -> frozenset[str]:
    return frozenset(f"unet_lora_{part}_modules{suffix}" for part in _PARTS)


# Its lists are OSEDiff's, and so are its adapters.
RELEASE = Kind(
    name="the TVT release",
    option="--tvt",
    entries=_lists() | {"rank_unet", UNET},
    optional=frozenset({"lora_alpha"}),
    adapters=tuple(f"default_{part}" for part in _PARTS),
)
OSEDIFF = Kind(
    name="OSEDiff",
    option="--osediff",
    entries=_lists() | {"vae_lora_encoder_modules", "rank_unet", "rank_vae", UNET, VAE},
    adapters=tuple(f"default_{part}" for part in _PARTS),
)
PISASR = Kind(
    name="PiSA-SR",
    option="--pisasr",
    entries=_lists("_pix") | _lists("_sem") | {"lora_rank_unet_pix", "lora_rank_unet_sem", UNET},
    adapters=tuple(f"default_{part}_{which}" for which in ("pix", "sem") for part in _PARTS),
)


def name_file(file: Path) -> tuple[Kind | None, Tensors]:
    """Tell whose file this is by what it has, None for any other, and give its tensors as `read_tensors` does.

    Raises:
        As `read_tensors`.
    """
    content = read_torch(file) if is_torch(map_file(file)) else {}
    entries = set(content) if type(content) is dict else set()
    kind = next((kind for kind in (OSEDIFF, PISASR) if kind.entries <= entries), None)
    if not kind:
        return None, read_tensors(file)
    parts = [content[key] for key in (UNET, VAE) if type(content.get(key)) is dict]
    held = {name: x for part in parts for name, x in part.items() if isinstance(x, np.ndarray)}
    return kind, {str(name): tensor for name, tensor in held.items()}


def read_content(file: Path, kind: Kind) -> dict[str, Any]:
    """Read a file of this kind; nothing in it is run.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is another file, or has an entry that is not known.
    """
    content = read_torch(file)
    entries = set(content) if type(content) is dict else set()
    with naming(file):
        if missing := sorted(kind.entries - entries):
            raise Refusal(f"is not the file of {kind.name}: it has no {', '.join(missing)}")
        if extra := sorted(map(str, entries - kind.entries - kind.optional)):
            raise Refusal(f"has {brief(', '.join(extra))}, which is not known of {kind.name}'s file")
    return content


def read_lora(
    file: Path, tensors: Any, *, adapters: Collection[str], rank: Any, layers: Iterable[str], shapes: Shapes
) -> tuple[Tensors, Branches]:
    """Split one state dict into tensors that take the place of others, and LoRA, PEFT's scale of 8 / rank in it.

    Args:
        file: where they are from, for the message.
        tensors: the state dict.
        adapters: whose LoRA it is to be.
        rank: that the file says it has.
        layers: that must have LoRA, and no others.
        shapes: the network's.

    Raises:
        ValueError: anything is missing, or there besides, or of another shape or rank.
    """
    with naming(file):
        if type(tensors) is not dict or not all(type(name) is str for name in tensors):
            raise Refusal("does not hold its tensors in a dict by name")
        tensors = unwrapped(tensors, str(file))
        found = {match[1] for name in tensors if (match := _ADAPTER.search(name))}
        if odd := sorted(found - set(adapters)):
            raise Refusal(f"has the unknown adapter {brief(odd[0])}: it should have {', '.join(adapters)}")
        plain, lora = split_lora(tensors)
        check_rank(lora, rank)
        wanted = set(layers)
        if differing := sorted(wanted ^ lora.keys()):
            what = "lacks" if differing[0] in wanted else "has needless"
            raise Refusal(f"{what} LoRA on {differing[0]} ({len(differing)} such layers): it is not for this network")
    check_lora(lora, shapes, str(file))
    return plain, lora


def layers_of(shapes: Shapes, within: tuple[str, ...] = ("",)) -> list[str]:
    """List the layers that carry LoRA: convolutions, attention, feed-forward and projections, not the time embedding.

    Args:
        shapes: the network's.
        within: what their names may begin with.
    """
    weights = (name.removesuffix(".weight") for name in shapes if name.endswith(".weight") and name.startswith(within))
    return [name for name in weights if _LAYERS.search(name) and "norm" not in name]
