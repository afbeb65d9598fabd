"""Files of torch.save written by hand, so that they can be wrong."""

import pickle
import zipfile
from pathlib import Path

START, STOP = b"\x80\x02", b"."
CANARY = "touch canary"


def text(value: str) -> bytes:
    encoded = value.encode()
    return pickle.BINUNICODE + len(encoded).to_bytes(4, "little") + encoded


def number(value: int) -> bytes:
    encoded = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(encoded)]) + encoded


def name(module: str, member: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{member}\n".encode()


def parts(*values: bytes) -> bytes:
    return pickle.MARK + b"".join(values) + pickle.TUPLE


def numbers(values: tuple[int, ...]) -> bytes:
    return parts(*map(number, values))


def call(module: str, member: str, *arguments: bytes) -> bytes:
    return name(module, member) + parts(*arguments) + pickle.REDUCE


def storage(kind: str = "FloatStorage", key: str = "0", count: int = 6) -> bytes:
    identity = parts(text("storage"), name("torch", kind), text(key), text("cpu"), number(count))
    return identity + pickle.BINPERSID


def tensor(data: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, *more: bytes) -> bytes:
    hooks = call("collections", "OrderedDict")
    rest = (number(offset), numbers(size), numbers(stride), pickle.NEWFALSE, hooks, *more)
    return call("torch._utils", "_rebuild_tensor_v2", data, *rest)


def state_dict(**values: bytes) -> bytes:
    items = b"".join(text(key) + value for key, value in values.items())
    return START + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + STOP


def write_zip(file: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return file


def write_torch(file: Path, pickled: bytes, data: bytes = bytes(24), **more: bytes) -> Path:
    members = {"data.pkl": pickled, "data/0": data, "byteorder": b"little", **more}
    return write_zip(file, {f"archive/{member}": content for member, content in members.items()})
