"""Files of torch.save, read without PyTorch and without running anything in them."""

import io
import math
import re
import struct
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convert.mapped import Refusal, array_of, brief, map_file, naming, refuse_others
from convert.unpickle import Storage, load_pickle

ZIP = b"PK\3\4"
# The pickle of 0x1950a86a20f9469cfc6c, of any protocol: files of PyTorch before 1.6 begin with it.
_LEGACY = re.compile(rb"\x80[\2-\5](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.DOTALL)
# Of the largest models it takes one or two; read, it takes up to a hundred times its size.
_PICKLE_LIMIT = 8 << 20
# Of the largest models, of tens of thousands of tensors, a zip's table takes two or three; read, ten times its size.
_TABLE_LIMIT = 8 << 20


def is_torch(data: memoryview) -> bool:
    """Tell files of torch.save from others by how they begin."""
    return data[: len(ZIP)] == ZIP or bool(_LEGACY.match(data[:32]))


def read_torch(file: Path) -> Any:
    """Read what torch.save wrote, now or before PyTorch 1.6; tensors become read-only arrays.

    The few kinds of other objects that come with weights, such as Lightning's, become `convert.unpickle.Inert`.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it asks to run something, is damaged, or was not written by torch.save on a little-endian machine.
    """
    with naming(file):
        data = map_file(file)
        if data[: len(ZIP)] == ZIP:
            return _read_zip(file, data)
        if is_torch(data):
            return _read_legacy(data)
        refuse_others(data)
        raise Refusal("is not a file of torch.save: give one, or a safetensors file")


def _read_zip(file: Path, data: memoryview) -> Any:
    members = _zip_members(file, data)
    root = next(iter(members)).partition("/")[0]
    order = bytes(data[members.get(f"{root}/byteorder", slice(0))][:8])
    if order not in (b"", b"little"):
        raise Refusal(f"has its numbers in {brief(order)} byte order: save it again on a little-endian machine")
    if f"{root}/data.pkl" not in members:
        raise Refusal("is a zip, and not one of torch.save: it has no data.pkl")
    pickled = data[members[f"{root}/data.pkl"]]
    if len(pickled) > _PICKLE_LIMIT:
        raise Refusal(f"has a data.pkl of {len(pickled)} bytes: PyTorch writes up to {_PICKLE_LIMIT} for weights")
    folder = f"{root}/data/"
    places = {name.removeprefix(folder): place for name, place in members.items() if name.startswith(folder)}
    return load_pickle(io.BytesIO(pickled), partial(_tensor, data, places))


class _Bounded(io.FileIO):
    """A zip whose table, which is read at once, may not be larger than that of any model."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _TABLE_LIMIT:
            raise Refusal(f"has a zip's table of {size} bytes: {_TABLE_LIMIT} are the most that is read")
        return super().read(size)


def _zip_members(file: Path, data: memoryview) -> dict[str, slice]:
    """Find where each member's bytes lie."""
    try:
        with _Bounded(file) as stream, zipfile.ZipFile(stream) as archive:
            infos = archive.infolist()
    except Refusal:
        raise
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError) as error:
        raise Refusal(f"is cut short or a damaged zip: {brief(str(error))}") from error
    members: dict[str, slice] = {}
    for info in infos:
        name = info.filename
        if name in members or ".." in name.split("/") or name.startswith("/"):
            raise Refusal(f"has the zip member {brief(name)} twice, or outside of its folder: refused")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
            raise Refusal(f"has {brief(name)} compressed or encrypted: save it again by torch.save")
        members[name] = _member(data, info)
    if not members:
        raise Refusal("is an empty zip")
    return members


def _member(data: memoryview, info: zipfile.ZipInfo) -> slice:
    header = data[info.header_offset :][:30]
    if info.header_offset < 0 or len(header) < 30 or header[:4] != ZIP:
        raise Refusal(f"is a damaged zip: {brief(info.filename)} is not where it should be")
    # The local lengths: PyTorch pads there, so that the data is aligned.
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
    if start + info.file_size > len(data):
        raise Refusal(f"is cut short within {brief(info.filename)}")
    return slice(start, start + info.file_size)


def _read_legacy(data: memoryview) -> Any:
    stream = io.BytesIO(data[:_PICKLE_LIMIT])
    storages: dict[str, Storage] = {}
    places: dict[str, slice] = {}
    make_tensor = partial(_tensor, data, places)
    _magic, _version, system = (load_pickle(stream, make_tensor) for _ in range(3))
    if type(system) is not dict or system.get("little_endian") is not True:
        raise Refusal("is not of a little-endian machine: save it again on one")
    # The tensors' data comes after them, and its place can only be told once all of them are known: read them twice.
    start = stream.tell()
    load_pickle(stream, lambda *_: None, storages)
    keys = load_pickle(stream, make_tensor)
    position = stream.tell()
    for key in keys if type(keys) is list else [keys]:
        if type(key) is not str or key not in storages or key in places:
            raise Refusal(f"has the data of {brief(key)}, which is no tensor's or is there twice: it is damaged")
        count, position = int.from_bytes(data[position : position + 8], "little"), position + 8
        places[key] = slice(position, position + storages[key].nbytes)
        position = places[key].stop
        if count != storages[key].count or position > len(data):
            raise Refusal(f"is cut short or damaged: storage {brief(key)} of {brief(storages[key].count)} numbers")
    stream.seek(start)
    return load_pickle(stream, make_tensor)


def _tensor(
    data: memoryview,
    places: dict[str, slice],
    storage: Storage,
    dtype: np.dtype,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
) -> np.ndarray:
    if storage.key not in places:
        raise Refusal(f"lacks the storage {brief(storage.key)} of a tensor: it is damaged")
    numbers = data[places[storage.key]][: storage.nbytes]
    if len(numbers) < storage.nbytes:
        held, needed = len(numbers), brief(storage.nbytes)
        raise Refusal(f"has {held} of the {needed} bytes of storage {brief(storage.key)}: it is cut short")
    if math.prod(size) * dtype.itemsize > len(data):
        raise Refusal(f"expands a few numbers to a tensor of size {brief(size)}: save a plain copy of its tensors")
    last = offset + sum((count - 1) * step for count, step in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * dtype.itemsize > storage.nbytes:
        raise Refusal(
            f"has a tensor of size {brief(size)} that reaches beyond storage {brief(storage.key)}: it is damaged"
        )
    strides = tuple(step * dtype.itemsize for step in stride)
    return array_of(numbers, dtype, size, 0 if 0 in size else offset * dtype.itemsize, strides)
