"""LoRA that a model folder keeps apart from its UNet, in a folder that PEFT loads."""

import math
from collections.abc import Mapping
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
_OTHER = ("rank_pattern", "alpha_pattern", "use_dora", "lora_bias", "layer_replication", "fan_in_fan_out")


def read_lora(folder: Place) -> PyTree | None:
    """Read the LoRA beside a model folder's UNet, scaled; None where there is none.

    Raises:
        ValueError: as `read_lora_scale`.
    """
    if not (folder / LORA).is_dir():
        return None
    tensors = read_weights(folder / LORA / LORA_WEIGHTS)
    lora = lora_from_torch({name.removeprefix(LORA_PREFIX): tensor for name, tensor in tensors.items()})
    return scale_lora(lora, read_lora_scale(folder))


def read_lora_scale(folder: Place) -> float:
    """Give the factor on the LoRA of a model folder.

    Raises:
        ValueError: it is of a kind of PEFT's that one factor does not tell.
    """
    config = read_json(folder / LORA / _CONFIG)
    if odd := [name for name in _OTHER if config.get(name)]:
        raise ValueError(f"{folder / LORA} has LoRA with {', '.join(odd)}, which is not read: merge it by PEFT first")
    return config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])


def write_lora(folder: Path, tensors: Mapping[str, Any], rank: int, alpha: float) -> None:
    """Write LoRA beside the UNet of a model folder; its tensors are MODULE.lora_A.weight and MODULE.lora_B.weight."""
    modules = sorted({name.split(".lora_")[0] for name in tensors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": modules}
    (folder / LORA).mkdir()
    write_json(folder / LORA / _CONFIG, config)
    named = {f"{LORA_PREFIX}{name}": tensor for name, tensor in tensors.items()}
    write_tensors(folder / LORA / LORA_WEIGHTS, named, "float32")
