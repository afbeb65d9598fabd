"""Files of torch.save, written without PyTorch: a zip of one pickle and the numbers of each tensor."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage"}
_CHUNK = 64 << 20


def write_torch(file: Path, content: Mapping[str, Any]) -> None:
    """Write nested dicts, lists, strings and numbers with float arrays in them, as torch.load reads them.

    Args:
        file: what to write.
        content: arrays are float32, float16 or bfloat16.
    """
    pickled = io.BytesIO()
    pickler = _Pickler(pickled)
    pickler.dump(dict(content))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(f"{file.stem}/data.pkl", pickled.getvalue())
        archive.writestr(f"{file.stem}/byteorder", "little")
        for i, array in enumerate(pickler.arrays):
            with archive.open(f"{file.stem}/data/{i}", "w", force_zip64=True) as out:
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                for start in range(0, len(data), _CHUNK):
                    out.write(data[start : start + _CHUNK])
        archive.writestr(f"{file.stem}/version", "3\n")


class _Global:
    """A function or class of PyTorch's, told by its name."""

    def __init__(self, module: str, name: str) -> None:
        self.line = f"{module}\n{name}\n".encode()


# The pickler in Python, since the one in C would import what it names.
class _Pickler(pickle._Pickler):
    write: Any

    def __init__(self, out: io.BytesIO) -> None:
        super().__init__(out, protocol=2)
        self.arrays: list[np.ndarray] = []

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Global):
            self.write(pickle.GLOBAL + obj.line)
        elif isinstance(obj, np.ndarray):
            self._save_array(obj)
        else:
            super().save(obj, save_persistent_id)  # type: ignore[misc]

    def _save_array(self, array: np.ndarray) -> None:
        """Write `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`."""
        storage = _Global("torch", _STORAGES[array.dtype.name])
        strides = tuple(int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim))
        self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
        self.write(pickle.MARK)
        self.save(("storage", storage, str(len(self.arrays)), "cpu", array.size))
        self.write(pickle.BINPERSID)
        for value in (0, tuple(map(int, array.shape)), strides, False):
            self.save(value)
        self.save(_Global("collections", "OrderedDict"))
        self.write(pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE)
        self.arrays.append(array)
