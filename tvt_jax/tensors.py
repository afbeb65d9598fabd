"""The files of model folders and tagger folders: safetensors and JSON."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from tvt_jax.models.keys import from_torch, to_torch
from tvt_jax.place import Place

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_ALIGNMENT = 64  # in bytes, of memory that jax takes over on a CPU
_MAPPED = 64  # tensors of a file that are mapped at a time


def write_tensors(file: Path, tensors: Mapping[str, Any], dtype: str) -> None:
    """Write safetensors, one tensor after the other, so that no two of them need be in memory at once.

    Args:
        file: what to write.
        tensors: arrays, or whatever has a shape and turns into an array.
        dtype: float32, float16 or bfloat16.
    """
    number = np.dtype(getattr(ml_dtypes, dtype, dtype))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + math.prod(tensor.shape) * number.itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format asks for aligned data
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            out.write(np.ascontiguousarray(tensor, number).reshape(-1).view(np.uint8).data)


def read_weights(file: Place) -> dict[str, np.ndarray]:
    """Read a safetensors file of a model folder, as float32; on a CPU jax takes the memory over, without a copy.

    Raises:
        FileNotFoundError: it isn't there.
        ValueError: it is damaged, or something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing from the model folder")
    try:
        if not isinstance(file, Path):
            return {name: _laid_out(name, tensor) for name, tensor in load(file.read_bytes()).items()}
        with safe_open(file, "numpy") as tensors:
            names = tensors.offset_keys()
        parts = (names[start : start + _MAPPED] for start in range(0, len(names), _MAPPED))
        return {name: weight for part in parts for name, weight in _read(file, part)}
    except SafetensorError as error:
        raise ValueError(f"{file} is cut short, damaged or no safetensors file: {error}") from error


def _read(file: Path, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Read some of the tensors; the file is mapped for as long, and what was read of it counts as memory in use."""
    with safe_open(file, "numpy") as tensors:
        yield from ((name, _laid_out(name, tensors.get_tensor(name))) for name in names)


def _laid_out(name: str, tensor: np.ndarray) -> np.ndarray:
    """Give the tensor in memory that is aligned as jax asks, in the order in which our parameter lies there."""
    path, view = from_torch(name, tensor)
    size = view.size * np.dtype(np.float32).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    array = memory[start : start + size].view(np.float32).reshape(view.shape)
    array[...] = view
    return to_torch(path, array)[1]


def read_json(file: Place) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        FileNotFoundError: the file isn't there.
        ValueError: it is something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing from the model folder")
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} does not hold sound JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds JSON that is not an object")
    return content


def read_fields(file: Place, kind: type) -> dict[str, Any]:
    """Read a JSON object whose names are fields of a dataclass.

    Raises:
        As `read_json`, and ValueError: it has others.
    """
    content = read_json(file)
    if unknown := set(content) - {field.name for field in fields(kind)}:
        raise ValueError(f"{file} has unknown fields {sorted(unknown)}; it may come from a newer version")
    return content


def write_json(file: Path, data: dict[str, Any]) -> None:
    """Write JSON as people read it."""
    file.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
