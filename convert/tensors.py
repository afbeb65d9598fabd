"""Tensors of PyTorch and safetensors files, mapped into memory; nothing in a file is ever run."""

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from convert.json_file import LIMIT, is_text, parse_json, read_json
from convert.mapped import Refusal, array_of, brief, map_file, naming, refuse_others
from convert.torch_file import is_torch, read_torch
from convert.unpickle import Inert

_INDEX = re.compile(r".*\.index(\.\w+)?\.json")
_STATE_DICTS = ("state_dict", "state_dict_unet", "model")  # the latter two are model_TVT.pkl's and RAM's
_PART = re.compile(r"\w[\w.+-]*")  # a file in the same folder
_SAFETENSORS_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Read the named tensors of a PyTorch file, of a safetensors file or of the parts that an index lists.

    Of a PyTorch file, these are those of its `state_dict` (or the release's `state_dict_unet`, or RAM's `model`), where
    it has one. The arrays are read-only.

    Raises:
        FileNotFoundError: the file or one of its parts is missing.
        ValueError: it is damaged, asks to run something, or its tensors are not in one flat dict.
    """
    if _INDEX.fullmatch(file.name):
        return _read_parts(file)
    if not is_torch(map_file(file)):
        return read_safetensors(file)
    content = read_torch(file)
    with naming(file):
        return _flat(content)


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file into read-only arrays.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is damaged, or has numbers of an unknown type.
    """
    with naming(file):
        header, body = _read_header(file)
        header.pop("__metadata__", None)
        return _read_entries(header, body)


def read_metadata(file: Path) -> dict[str, Any]:
    """Read what a safetensors file says of itself beside its tensors; of other files, nothing.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is damaged.
    """
    if _INDEX.fullmatch(file.name):
        return {}
    with naming(file):
        if is_torch(map_file(file)):
            return {}
        metadata = _read_header(file)[0].get("__metadata__")
        return metadata if isinstance(metadata, dict) else {}


def _read_header(file: Path) -> tuple[dict[str, Any], memoryview]:
    """Give the header, and the bytes that it describes."""
    data = map_file(file)
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8 or bytes(data[8:9]) != b"{":
        refuse_others(data)
    if length > len(data) - 8:
        raise Refusal(f"is cut short or no safetensors file: its header would take {length} bytes")
    if length > LIMIT:
        raise Refusal(f"has a header of {length} bytes: {LIMIT} are the most that is read")
    return parse_json(data[8 : 8 + length]), data[8 + length :]


def _read_entries(header: dict[str, Any], body: memoryview) -> dict[str, np.ndarray]:
    entries: list[tuple[int, int, str, np.dtype, tuple[int, ...]]] = []
    for name, entry in header.items():
        match entry:
            case {"dtype": str() as kind, "shape": [*sizes], "data_offsets": [int() as begin, int() as end]} if (
                kind in _SAFETENSORS_DTYPES and all(type(size) is int and size >= 0 for size in sizes)
            ):
                entries.append((begin, end, name, _SAFETENSORS_DTYPES[kind], tuple(sizes)))
            case _:
                raise Refusal(f"describes the tensor {brief(name)} in no known way: {brief(entry)}")
    tensors = {}
    position = 0
    for begin, end, name, dtype, shape in sorted(entries, key=lambda entry: entry[:2]):
        if begin != position or not begin <= end <= len(body):
            raise Refusal(f"has {brief(name)} at bytes {brief(begin)} to {brief(end)}, out of place: it is damaged")
        tensors[name] = array_of(body[begin:end], dtype, shape)
        if tensors[name].nbytes != end - begin:
            raise Refusal(f"has {end - begin} bytes for {brief(name)}, of shape {brief(shape)}: it is damaged")
        position = end
    if position != len(body):
        raise Refusal(f"has {len(body)} bytes of tensors and describes {position}: it is damaged")
    return tensors


def _flat(content: Any) -> dict[str, np.ndarray]:
    if type(content) is dict:
        key = next((key for key in _STATE_DICTS if type(content.get(key)) in (dict, Inert)), None)
        if key is not None:
            _check_alone(content, key)
            content = content[key]
        if type(content) is Inert:
            raise Refusal(f"holds a {content.name} as {brief(key)}: only a plain dict of tensors is read")
    if type(content) is not dict:
        kind = content.name if isinstance(content, Inert) else type(content).__name__
        raise Refusal(f"holds a {kind} and not a dict of tensors")
    for name, value in content.items():
        if isinstance(value, (dict, list, tuple)) or (isinstance(value, np.ndarray) and type(name) is not str):
            raise Refusal(f"holds a {type(value).__name__} as {brief(name)}: only a flat dict of named tensors is read")
        if type(name) is str and not is_text(name):
            raise Refusal(f"has the name {brief(name)}, which is not text: it is damaged")
    tensors = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    if not tensors:
        raise Refusal("holds no tensors")
    return tensors


def _check_alone(content: dict[Any, Any], chosen: str) -> None:
    """Check that no other entry holds tensors of the same names, such as averages: which are meant is not known."""
    names = set(content[chosen]) if type(content[chosen]) is dict else set()
    for key, value in content.items():
        if key != chosen and type(value) is dict and any(isinstance(value[x], np.ndarray) for x in names & set(value)):
            raise Refusal(
                f"holds tensors of the same names as {brief(chosen)} and as {brief(key)}: save those you mean alone"
            )


def _read_parts(index: Path) -> dict[str, np.ndarray]:
    with naming(index):
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise Refusal("has no weight_map: it is no index of weights")
        for part in weight_map.values():
            if type(part) is not str or not _PART.fullmatch(part) or _INDEX.fullmatch(part):
                raise Refusal(f"refers to {brief(part)}, which is not the name of a file of weights beside it: refused")
        tensors: dict[str, np.ndarray] = {}
        for part in sorted(set(weight_map.values())):
            if not (index.parent / part).is_file():
                raise FileNotFoundError(f"{index} refers to {brief(part)}, which is not beside it")
            read = read_tensors(index.parent / part)
            if twice := tensors.keys() & read.keys():
                raise Refusal(f"has parts that hold {brief(min(twice))} twice: it is damaged")
            if missing := {name for name in weight_map if weight_map[name] == part} - read.keys():
                raise Refusal(f"expects {brief(min(missing))} in {brief(part)}, where it is not: it is damaged")
            tensors |= read
    return tensors
