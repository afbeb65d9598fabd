"""LoRA that a model folder keeps apart from its UNet, in a folder that PEFT loads."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from tvt_jax.models.keys import lora_from_torch
from tvt_jax.models.lora import scale_lora
from tvt_jax.place import Place
from tvt_jax.tensors import read_json, read_weights, write_json, write_tensors

LORA = "unet_lora"
LORA_WEIGHTS = "adapter_model.safetensors"
LORA_PREFIX = "base_model.model."
_CONFIG = "adapter_config.json"
# Settings that are read here, and those that only tell how the weights came about.
_KNOWN = frozenset(
    "r lora_alpha use_rslora target_modules exclude_modules layers_to_transform layers_pattern lora_dropout "
    "inference_mode base_model_name_or_path revision task_type auto_mapping megatron_core runtime_config loftq_config "
    "eva_config corda_config lora_ga_config peft_version qalora_group_size ensure_weight_tying".split()
)
_NOTHING: tuple[Any, ...] = (None, False, {}, [])
# What others of plain LoRA may be. Pissa, olora and others take away from the weights what they begin with.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


def read_lora(folder: Place) -> PyTree | None:
    """Read the LoRA beside a model folder's UNet, scaled; None where there is none.

    Raises:
        ValueError: as `read_lora_scale`.
    """
    if not (folder / LORA).is_dir():
        return None
    tensors = read_weights(folder / LORA / LORA_WEIGHTS)
    lora = lora_from_torch({name.removeprefix(LORA_PREFIX): tensor for name, tensor in tensors.items()})
    ranks = {len(tensor) for name, tensor in tensors.items() if ".lora_A." in name}
    return scale_lora(lora, read_lora_scale(folder, ranks))


def read_lora_scale(folder: Place, ranks: Collection[int]) -> float:
    """Give the factor on the LoRA of a model folder.

    Args:
        folder: of the model.
        ranks: that its tensors have.

    Raises:
        ValueError: it is of a kind of PEFT's that one factor does not tell, or its tensors have another rank.
    """
    file = folder / LORA / _CONFIG
    config = read_json(file)
    others = {name: value for name, value in config.items() if name not in _KNOWN}
    if odd := [name for name, value in others.items() if value not in _PLAIN.get(name, _NOTHING)]:
        raise ValueError(f"{folder / LORA} has LoRA with {', '.join(odd)}, which is not read: merge it by PEFT first")
    rank, alpha = config.get("r", 0), config.get("lora_alpha", 0)
    if type(rank) is not int or {rank} != set(ranks) or type(alpha) not in (int, float) or not 0 < alpha < math.inf:
        raise ValueError(
            f"{file} says rank {rank!r} and lora_alpha {alpha!r}, and the tensors have ranks {sorted(ranks)}"
        )
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def write_lora(folder: Path, tensors: Mapping[str, Any], rank: int, alpha: float) -> None:
    """Write LoRA beside the UNet of a model folder; its tensors are MODULE.lora_A.weight and MODULE.lora_B.weight."""
    modules = sorted({name.split(".lora_")[0] for name in tensors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": modules}
    (folder / LORA).mkdir()
    write_json(folder / LORA / _CONFIG, config)
    named = {f"{LORA_PREFIX}{name}": tensor for name, tensor in tensors.items()}
    write_tensors(folder / LORA / LORA_WEIGHTS, named, "float32")
