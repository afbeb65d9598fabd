import json
import random
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convert.json_file import LIMIT
from convert.tensors import read_safetensors, read_tensors
from tests.convert.torch_files import CANARY, START, STOP, call, state_dict, storage, tensor, text, write_torch

TENSORS = {"b.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.arange(4, dtype=torch.int64)}
DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 float8_e4m3fn float8_e5m2"
).split()


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded + data


def entry(shape: list, begin: int, end: int, dtype: str = "F32", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value.numpy(), err_msg=name, strict=True)


def assert_refused(file: Path, says: str, read: Any = read_tensors) -> None:
    with pytest.raises(ValueError) as caught:
        read(file)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith(f"{file} ") and says in message and "\n" not in message
    assert len(message) < len(str(file)) + 500


def test_every_type_of_safetensors_is_read_to_the_bit(tmp_path: Path):
    bits = torch.randint(0, 256, (3, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tensors = {name: bits.view(getattr(torch, name)).clone() for name in DTYPES}
    tensors |= {"bool": bits > 99, "scalar": torch.tensor(2.5), "nothing": torch.zeros(0, 3)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    read = read_safetensors(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, array in read.items():
        assert array.dtype.name == str(tensors[name].dtype).removeprefix("torch.")
        assert array.shape == tuple(tensors[name].shape)
        assert array.tobytes() == tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()
        assert not array.flags.writeable


def test_safetensors_are_mapped(tmp_path: Path):
    save_file({"a": torch.zeros(10_000_000)}, tmp_path / "a.safetensors")
    tracemalloc.start()
    array = read_safetensors(tmp_path / "a.safetensors")["a"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert array.nbytes == 40_000_000 and peak < 1e6


SAFETENSORS = {
    "empty": (b"", "is empty"),
    "half a length": (b"\x08\x00\x00", "is cut short or no safetensors file"),
    "a length alone": (safetensors(b"", length=8), "is cut short or no safetensors file"),
    "a header too long": (safetensors({}, length=10**9), "its header would take 1000000000 bytes"),
    "a header beyond counting": (safetensors({}, length=2**64 - 1), "is cut short or no safetensors file"),
    "a header of more than is read": (
        safetensors(b"{" * (1 + LIMIT)),
        f"has a header of {1 + LIMIT} bytes: {LIMIT} are",
    ),
    "half a character": (safetensors(b'{"\\ud800": 1}'), "has the name '\\ud800', which is not text: it is damaged"),
    "no header": (safetensors(b""), "does not hold sound JSON"),
    "no JSON": (safetensors(b"{'a': 1}"), "does not hold sound JSON"),
    "no text": (safetensors(b'{"\xff\xfe": 1}'), "does not hold sound JSON"),
    "a list": (safetensors([]), "holds JSON that is not an object"),
    "lists without end": (safetensors(b"[" * 100_000), "does not hold sound JSON"),
    "a number without end": (safetensors(b'{"a":' + b"9" * 5000 + b"}"), "does not hold sound JSON"),
    "a name twice": (safetensors(b'{"a": {}, "a": {}}'), "'a' is there twice"),
    "a field twice": (safetensors(b'{"a": {"dtype": "F32", "dtype": "F64"}}'), "'dtype' is there twice"),
    "no entry": (safetensors({"a": 1}), "describes the tensor 'a' in no known way: 1"),
    "no type": (safetensors({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "in no known way"),
    "an unknown type": (safetensors({"a": entry([1], 0, 4, "F33")}, bytes(4)), "'dtype': 'F33'"),
    "a type that is no text": (safetensors({"a": entry([1], 0, 4, ["F32"])}, bytes(4)), "in no known way"),
    "a negative size": (safetensors({"a": entry([-1, -1], 0, 4)}, bytes(4)), "in no known way"),
    "a size with a fraction": (safetensors({"a": entry([1.0], 0, 4)}, bytes(4)), "in no known way"),
    "a size that is true": (safetensors({"a": entry([True], 0, 4)}, bytes(4)), "in no known way"),
    "a shape that is no list": (safetensors({"a": entry(1, 0, 4)}, bytes(4)), "in no known way"),
    "one offset": (safetensors({"a": {**entry([1], 0, 4), "data_offsets": [0]}}, bytes(4)), "in no known way"),
    "an offset beyond the file": (safetensors({"a": entry([2], 0, 8)}, bytes(4)), "at bytes 0 to 8"),
    "an offset beyond counting": (safetensors({"a": entry([1], 0, 2**70)}, bytes(4)), "out of place"),
    "an offset of many digits": (safetensors({"a": entry([1], 10**4000, 10**4001)}, bytes(4)), "out of place"),
    "a negative offset": (safetensors({"a": entry([1], -4, 0)}, bytes(4)), "at bytes -4 to 0"),
    "an end before its start": (
        safetensors({"a": entry([1], 0, 4), "b": entry([0], 4, 0)}, bytes(4)),
        "at bytes 4 to 0",
    ),
    "an overlap": (safetensors({"a": entry([1], 0, 4), "b": entry([1], 2, 6)}, bytes(6)), "at bytes 2 to 6"),
    "the same place twice": (safetensors({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)), "out of place"),
    "a hole": (safetensors({"a": entry([1], 0, 4), "b": entry([1], 6, 10)}, bytes(10)), "at bytes 6 to 10"),
    "a hole at the start": (safetensors({"a": entry([1], 4, 8)}, bytes(8)), "at bytes 4 to 8"),
    "a shape too large": (safetensors({"a": entry([3], 0, 8)}, bytes(8)), "a tensor of shape (3,)"),
    "a shape too small": (safetensors({"a": entry([1], 0, 8)}, bytes(8)), "has 8 bytes for 'a', of shape (1,)"),
    "a shape beyond counting": (safetensors({"a": entry([2**62, 4], 0, 0)}), "cannot hold"),
    "a shape far beyond counting": (safetensors({"a": entry([0, 2**70], 0, 0)}), "cannot hold"),
    "dimensions without end": (safetensors({"a": entry([1] * 1000, 0, 4)}, bytes(4)), "cannot hold"),
    "bytes over": (safetensors({"a": entry([1], 0, 4)}, bytes(6)), "has 6 bytes of tensors and describes 4"),
    "cut short": (safetensors({"a": entry([2], 0, 8)}, bytes(7)), "at bytes 0 to 8"),
}


@pytest.mark.parametrize("content, says", SAFETENSORS.values(), ids=SAFETENSORS.keys())
def test_broken_safetensors_are_refused(tmp_path: Path, content: bytes, says: str):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert_refused(tmp_path / "a.safetensors", says)
    assert_refused(tmp_path / "a.safetensors", says, read_safetensors)


def test_no_damage_to_safetensors_raises_anything_else(tmp_path: Path):
    file = tmp_path / "a.safetensors"
    save_file(TENSORS, file)
    content = file.read_bytes()
    chance = random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] = chance.choice((0, 0xFF, ord('"'), ord("9"), chance.randrange(256)))
        file.write_bytes(damaged)
        try:
            read_safetensors(file)
        except ValueError as error:
            assert str(error).startswith(f"{file} ") and "\n" not in str(error)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("file_name", ["weights.bin", "weights.safetensors", "weights"])
def test_the_content_tells_the_format(tmp_path: Path, form: str, file_name: str):
    file = tmp_path / file_name
    if form == "safetensors":
        save_file(TENSORS, file)
    else:
        torch.save(TENSORS, file, _use_new_zipfile_serialization=form == "zip")
    assert_same(read_tensors(file), TENSORS)


def test_the_state_dict_of_a_checkpoint_is_read(tmp_path: Path):
    checkpoint = {"global_step": 7, "epoch": 1, "callbacks": {"a": {"b": 1}}, "state_dict": {**TENSORS, "version": 3}}
    torch.save(checkpoint, tmp_path / "a.ckpt")
    assert_same(read_tensors(tmp_path / "a.ckpt"), TENSORS)


@pytest.mark.parametrize(
    "content, says",
    [
        ([torch.zeros(1)], "holds a list and not a dict of tensors"),
        (torch.zeros(1), "holds a ndarray and not a dict of tensors"),
        ({"weights": TENSORS}, "holds a dict as 'weights': only a flat dict of named tensors is read"),
        ({"state_dict": {"a": [torch.zeros(1)]}}, "holds a list as 'a'"),
        ({3: torch.zeros(1)}, "holds a ndarray as 3"),
        ({"global_step": 7}, "holds no tensors"),
        ({"a\ud800": torch.zeros(1)}, "has the name 'a\\ud800', which is not text"),
        (
            {"state_dict": TENSORS, "ema": TENSORS},
            "of the same names as 'state_dict' and as 'ema': save those you mean",
        ),
        (defaultdict(list, a=torch.zeros(1)), "holds a collections.defaultdict and not a dict of tensors"),
        (
            {"state_dict": defaultdict(list, a=torch.zeros(1)), "b": torch.zeros(1)},
            "holds a collections.defaultdict",
        ),
    ],
    ids=[
        *("a list", "a tensor", "dicts in a dict", "a list in a dict", "a number as a name", "no tensors"),
        *("half a character", "weights and their averages", "what is inert", "an inert state dict"),
    ],
)
def test_only_a_flat_dict_is_read(tmp_path: Path, content: Any, says: str):
    torch.save(content, tmp_path / "a.ckpt")
    assert_refused(tmp_path / "a.ckpt", says)


def test_a_hostile_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    file = write_torch(tmp_path / "a.safetensors", START + call("posix", "system", text(CANARY)) + STOP)
    assert_refused(file, "asks to run posix.system, which no tensor needs")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def write_index(folder: Path, weight_map: Any, *, suffix: str = "safetensors") -> Path:
    index = folder / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 80}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_the_parts_of_an_index_are_read(tmp_path: Path, suffix: str):
    names = [f"model-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    for file_name, (name, value) in zip(names, TENSORS.items(), strict=True):
        (torch.save if suffix == "bin" else save_file)({name: value}, tmp_path / file_name)
    index = write_index(tmp_path, dict(zip(TENSORS, names, strict=True)), suffix=suffix)
    assert_same(read_tensors(index), TENSORS)


@pytest.mark.parametrize(
    "part",
    [
        *("../a.bin", "..", ".", "", "folder/a.bin", "..\\a.bin", "/etc/passwd", "~/a.bin", "a\nb", "a\0b"),
        *("model.safetensors.index.json", 7, None, ["a.bin"]),
    ],
)
def test_an_index_leads_nowhere_else(tmp_path: Path, part: Any):
    torch.save(TENSORS, tmp_path / "a.bin")
    (tmp_path / "folder").mkdir()
    torch.save(TENSORS, tmp_path / "folder" / "a.bin")
    index = write_index(tmp_path / "folder", {"b.weight": part})
    assert_refused(index, "which is not the name of a file of weights beside it")


def test_an_index_without_its_parts_is_refused(tmp_path: Path):
    index = write_index(tmp_path, {"a": "a.bin"})
    with pytest.raises(FileNotFoundError, match=r"index\.json refers to 'a\.bin', which is not beside it$"):
        read_tensors(index)
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(FileNotFoundError, match=r"index\.json refers to 'a\.bin', which is not beside it$"):
        read_tensors(index)


def test_parts_hold_what_the_index_says_and_once(tmp_path: Path):
    save_file(TENSORS, tmp_path / "1.safetensors")
    save_file(TENSORS, tmp_path / "2.safetensors")
    index = write_index(tmp_path, {"a.bias": "1.safetensors", "b.weight": "2.safetensors"})
    assert_refused(index, "has parts that hold 'a.bias' twice")
    assert_refused(write_index(tmp_path, {"c": "1.safetensors"}), "expects 'c' in '1.safetensors', where it is not")


def test_a_broken_part_is_named(tmp_path: Path):
    part = write_torch(tmp_path / "1.bin", state_dict(a=tensor(storage(), (7,), (1,))))
    with pytest.raises(ValueError, match="reaches beyond") as caught:
        read_tensors(write_index(tmp_path, {"a": "1.bin"}))
    assert str(caught.value).startswith(f"{part} ")


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        (b"{", "does not hold sound JSON"),
        (b" " * (1 + LIMIT), "bytes of JSON"),
        (b"[]", "holds JSON that is not an object"),
        (b"{}", "has no weight_map"),
        (b'{"weight_map": {}}', "has no weight_map"),
        (b'{"weight_map": ["a.bin"]}', "has no weight_map"),
        (b'{"weight_map": {"a": "1.bin", "a": "2.bin"}}', "'a' is there twice"),
    ],
)
def test_a_broken_index_is_refused(tmp_path: Path, content: bytes, says: str):
    (tmp_path / "model.bin.index.json").write_bytes(content)
    assert_refused(tmp_path / "model.bin.index.json", says)


@pytest.mark.parametrize("file_name", ["a.safetensors", "a.safetensors.index.json"])
def test_what_is_no_file_is_not_there(tmp_path: Path, file_name: str):
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match=f"{file_name} is not there, or is not a file$"):
            read_tensors(tmp_path / file_name)
        (tmp_path / file_name).mkdir(exist_ok=True)
