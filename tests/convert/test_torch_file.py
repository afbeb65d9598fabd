import io
import mmap
import random
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from convert import torch_file
from convert.torch_file import read_torch
from tests.convert.torch_files import number, state_dict, storage, tensor, text, write_torch, write_zip

OLD = [
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split(),
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 "
    "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz".split(),
]
GOOD = state_dict(a=tensor(storage(), (6,), (1,)))


def save(file: Path, content: Any, *, zipped: bool = True, protocol: int = 2) -> Path:
    torch.save(content, file, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return file


def legacy_bytes(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def memory_of(array: np.ndarray) -> Any:
    """What the array is a view of at last."""
    base: Any = array
    while (below := getattr(base, "base", None)) is not None or (below := getattr(base, "obj", None)) is not None:
        base = below
    return base


def assert_bits(actual: np.ndarray, expected: torch.Tensor) -> None:
    assert actual.shape == tuple(expected.shape)
    assert actual.dtype.name == str(expected.dtype).removeprefix("torch.")
    expected = expected.detach().contiguous()
    assert actual.tobytes() == (expected.view(torch.uint8) if expected.dim() else expected[None]).numpy().tobytes()


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def zipped(request: pytest.FixtureRequest) -> bool:
    return request.param


def test_every_type_is_read_to_the_bit(tmp_path: Path, zipped: bool):
    bits = torch.randint(0, 256, (3, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tensors = {name: bits.view(getattr(torch, name)).clone() for name in OLD[zipped] if name != "bool"} | {
        "bool": bits > 99
    }
    read = read_torch(save(tmp_path / "a.pt", tensors, zipped=zipped))
    assert read.keys() == tensors.keys()
    for name, array in read.items():
        assert_bits(array, tensors[name])
        assert not array.flags.writeable
    assert read["bfloat16"].dtype == ml_dtypes.bfloat16


def test_every_view_is_read_to_the_bit(tmp_path: Path, zipped: bool):
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "whole": base,
        "turned": base.permute(2, 0, 1),
        "sliced": base[1, ::2, 1:],
        "expanded": torch.arange(3.0)[:, None].expand(3, 5),
        "scalar": torch.tensor(2.5),
        "nothing": torch.zeros(0, 4),
        "nothing of something": base[2:],
        "channels last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "trained": torch.nn.Parameter(torch.rand(3)),
    }
    read = read_torch(save(tmp_path / "a.pt", tensors, zipped=zipped))
    assert read.keys() == tensors.keys()
    for name, array in read.items():
        if name == "scalar":
            assert array.shape == () and array == 2.5
        else:
            np.testing.assert_array_equal(array, tensors[name].detach().numpy(), err_msg=name, strict=True)
    assert np.shares_memory(read["whole"], read["turned"])
    assert read["expanded"].strides == (4, 0)


def test_a_tree_is_read_as_it_was(tmp_path: Path, zipped: bool):
    tree = {
        "numbers": [1, -(2**70), 2.5, None, True, float("inf")],
        "text": ("ä\n", ""),
        "size": torch.Size([1, 2]),
        "nested": [{"a": [({},)]}, []],
        7: OrderedDict(b=1),
    }
    read = read_torch(save(tmp_path / "a.pt", tree, zipped=zipped))
    assert read == {**tree, "size": (1, 2)}
    assert read_torch(save(tmp_path / "dtype.pt", {"dtype": torch.float16}, zipped=zipped)) == {"dtype": np.float16}


@pytest.mark.parametrize("protocol", [3, 4])
def test_newer_pickles_are_read(tmp_path: Path, protocol: int):
    tree = {"a": torch.arange(3), "long": "x" * 1000, "items": list(range(3000)), "bytes": b"12"}
    read = read_torch(save(tmp_path / "a.pt", tree, protocol=protocol))
    assert_bits(read.pop("a"), tree.pop("a"))
    assert read == tree


def test_older_files_of_newer_pickles_are_read(tmp_path: Path):
    read = read_torch(save(tmp_path / "a.pt", {"a": torch.arange(3)}, zipped=False, protocol=4))
    np.testing.assert_array_equal(read["a"], np.arange(3))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_storages_without_a_tensor_are_passed_by(tmp_path: Path, zipped: bool):
    a = torch.arange(6.0)
    content = {"a": a, "of a": a.storage(), "alone": torch.ones(3).storage(), "bytes": torch.ones(2).untyped_storage()}
    read = read_torch(save(tmp_path / "a.pt", content, zipped=zipped))
    assert_bits(read["a"], a)
    assert {name: read[name].count for name in ("of a", "alone", "bytes")} == {"of a": 6, "alone": 3, "bytes": 8}


def test_a_module_is_read(tmp_path: Path, zipped: bool):
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    state = module.state_dict()
    assert state._metadata
    parameters = dict(module.named_parameters())
    parameters["0.bias"].note = "kept by PyTorch beside the parameter"
    read = read_torch(save(tmp_path / "a.bin", {"state": state, "parameters": parameters}, zipped=zipped))
    assert type(read["state"]) is dict and list(read["state"]) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(read["state"][name], value.numpy(), strict=True)
    for name, value in parameters.items():
        assert_bits(read["parameters"][name], value)


def test_tied_weights_share_their_memory(tmp_path: Path, zipped: bool):
    weight = torch.rand(4, 3)
    read = read_torch(save(tmp_path / "a.pt", {"in": weight, "out": weight, "row": weight[2]}, zipped=zipped))
    assert np.shares_memory(read["in"], read["out"]) and np.shares_memory(read["in"], read["row"])
    np.testing.assert_array_equal(read["row"], weight[2].numpy())


def test_the_file_is_mapped(tmp_path: Path, zipped: bool):
    file = save(tmp_path / "a.pt", {"a": torch.arange(10_000_000, dtype=torch.int32)}, zipped=zipped)
    tracemalloc.start()
    array = read_torch(file)["a"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(memory_of(array), mmap.mmap)
    # The old format's pickles are at the start of the file, and as far as they may reach is copied.
    assert peak < (1e6 if zipped else 1e6 + torch_file._PICKLE_LIMIT)
    file.unlink()
    assert (array[::1000] == np.arange(0, 10_000_000, 1000)).all()


def changed(name: str, content: bytes | None) -> dict[str, bytes]:
    members = {"a/data.pkl": GOOD, "a/byteorder": b"little", "a/data/0": bytes(24), name: content}
    return {member: value for member, value in members.items() if value is not None}


ZIPS = {
    "big-endian": (changed("a/byteorder", b"big"), "has its numbers in b'big' byte order"),
    "of no byte order": (changed("a/byteorder", b"x" * 10**6), "byte order"),
    "without data.pkl": (changed("a/data.pkl", None), "it has no data.pkl"),
    "without numbers": (changed("a/data/0", None), "lacks the storage '0'"),
    "with too few numbers": (changed("a/data/0", bytes(23)), "has 23 of the 24 bytes of storage '0'"),
    "leading upwards": (changed("a/../../evil", b"x"), "has the zip member 'a/../../evil' twice, or outside"),
    "leading to the root": (changed("/etc/evil", b"x"), "has the zip member '/etc/evil' twice, or outside"),
    "of a program": (changed("a/data.pkl", b"\x80\x02c__torch__\nModel\n)\x81."), "asks to run __torch__.Model"),
    "of other things": ({"word/document.xml": b"<x/>"}, "it has no data.pkl"),
    "without folders": ({"data.pkl": GOOD}, "it has no data.pkl"),
}


@pytest.mark.parametrize("members, says", ZIPS.values(), ids=ZIPS.keys())
def test_a_wrong_zip_is_refused(tmp_path: Path, members: dict[str, bytes], says: str):
    assert_refused(write_zip(tmp_path / "a.pt", members), says)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt"]


def assert_refused(file: Path, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_torch(file)
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.startswith(f"{file} ") and says in message and "\n" not in message
    assert len(message) < len(str(file)) + 500


def patched(content: bytes, old: bytes, new: bytes, count: int = -1) -> bytes:
    assert old in content
    return content.replace(old, new, count)


def zip_bytes(compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for member, value in changed("a/data/0", bytes(24)).items():
            archive.writestr(member, value)
    return stream.getvalue()


def with_entry(offset: int, value: bytes) -> bytes:
    """The zip with something else in the table's entry of the numbers, its last."""
    content = bytearray(zip_bytes())
    start = content.rindex(b"PK\1\2") + offset
    content[start : start + len(value)] = value
    return bytes(content)


BROKEN_ZIPS = {
    "compressed": (zip_bytes(zipfile.ZIP_DEFLATED), "compressed or encrypted"),
    "encrypted": (with_entry(8, b"\x01"), "has 'a/data/0' compressed or encrypted"),
    "of another size": (with_entry(24, b"\xff\xff\xff\x7f"), "has 'a/data/0' compressed or encrypted"),
    "of another size twice": (with_entry(20, b"\xff\xff\xff\x7f" * 2), "is cut short within 'a/data/0'"),
    "elsewhere": (with_entry(42, b"\x07"), "'a/data/0' is not where it should be"),
    "far away": (with_entry(42, b"\xff\xff\xff\x7f"), "'a/data/0' is not where it should be"),
    "of a later version": (with_entry(6, b"\xff"), "is cut short or a damaged zip"),
    "of a name twice": (patched(zip_bytes(), b"a/byteorder", b"a/data.pkl\0"), "twice"),
    "without its table": (zip_bytes()[: zip_bytes().index(b"PK\1\2")], "is cut short or a damaged zip"),
    "with half a table": (zip_bytes()[:-30], "is cut short or a damaged zip"),
    "with half a pickle": (zip_bytes()[:80], "is cut short or a damaged zip"),
    "of nothing but its mark": (b"PK\3\4", "is cut short or a damaged zip"),
    "with a table alone": (b"PK\3\4" + zip_bytes()[zip_bytes().index(b"PK\1\2") :], "damaged zip"),
}


@pytest.mark.parametrize("content, says", BROKEN_ZIPS.values(), ids=BROKEN_ZIPS.keys())
def test_a_broken_zip_is_refused(tmp_path: Path, content: bytes, says: str):
    (tmp_path / "a.pt").write_bytes(content)
    assert_refused(tmp_path / "a.pt", says)


def test_too_large_a_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_torch(tmp_path / "a.pt", GOOD)
    content = (tmp_path / "a.pt").read_bytes()
    size = content.rindex(b"PK\5\6") - content.index(b"PK\1\2")
    monkeypatch.setattr(torch_file, "_TABLE_LIMIT", size)
    read_torch(tmp_path / "a.pt")
    monkeypatch.setattr(torch_file, "_TABLE_LIMIT", size - 1)
    assert_refused(tmp_path / "a.pt", f"has a zip's table of {size} bytes: {size - 1} are the most that is read")


def test_too_large_a_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_file, "_PICKLE_LIMIT", len(GOOD) - 1)
    assert_refused(write_torch(tmp_path / "a.pt", GOOD), f"has a data.pkl of {len(GOOD)} bytes")


LEGACY = legacy_bytes({"a": torch.arange(6.0), "b": torch.arange(2)})
KEY = LEGACY[LEGACY.index(text("storage")) :].split(b"X", 2)[2].split(b"q")[0]
COUNT_AT = len(LEGACY) - 2 * 8 - 6 * 4 - 2 * 8
BROKEN_LEGACY = {
    "of nothing but its mark": (LEGACY[:15], "EOFError"),
    "without tensors": (LEGACY[:40], "EOFError"),
    "with half its tensors": (LEGACY[:400], "EOFError"),
    "without its numbers": (LEGACY[: COUNT_AT + 8], "is cut short or damaged: storage"),
    "without the last number": (LEGACY[:-1], "is cut short or damaged: storage"),
    "big-endian": (
        patched(LEGACY, text("little_endian") + b"q\x02\x88", text("little_endian") + b"q\x02\x89"),
        "little",
    ),
    "that calls": (patched(LEGACY, b"ctorch\nFloatStorage\n", b"cposix\nsystem\n"), "asks to run posix.system"),
    "that calls at once": (LEGACY[:15] + b"\x80\x02cos\nsystem\n.", "asks to run os.system"),
    "of tensors before their time": (LEGACY[:15] + GOOD * 3, "lacks the storage '0'"),
}


def test_legacy_bytes_are_as_these_tests_take_them():
    assert LEGACY[COUNT_AT : COUNT_AT + 8] in (number(6)[2:].ljust(8, b"\0"), number(2)[2:].ljust(8, b"\0"))


@pytest.mark.parametrize("content, says", BROKEN_LEGACY.values(), ids=BROKEN_LEGACY.keys())
def test_a_broken_legacy_file_is_refused(tmp_path: Path, content: bytes, says: str):
    (tmp_path / "a.ckpt").write_bytes(content)
    assert_refused(tmp_path / "a.ckpt", says)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "is empty"),
        (b"<html>Not found</html>", "is a web page, not the file"),
        (b"\x80\x04cos\nsystem\n.", "is a plain pickle, not a file of torch.save"),
        (b"anything in words", "is text, not weights"),
        (bytes(100), "is not a file of torch.save"),
    ],
    ids=["empty", "a page", "a plain pickle", "words", "anything else"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, says: str):
    (tmp_path / "a.pkl").write_bytes(content)
    assert_refused(tmp_path / "a.pkl", says)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None], ids=["folder", "nothing"])
def test_what_is_no_file_is_not_there(tmp_path: Path, make: Any):
    make(tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match=r"a\.pt is not there, or is not a file$"):
        read_torch(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [zip_bytes(), LEGACY], ids=["zip", "legacy"])
def test_no_damage_raises_anything_else(tmp_path: Path, content: bytes):
    """Whatever bytes are changed or missing, the file is read or refused, in one line."""
    file = tmp_path / "a.pt"
    chance = random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(4, len(content))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        if chance.random() < 0.2:
            del damaged[chance.randrange(4, len(content)) :]
        file.write_bytes(damaged)
        try:
            read_torch(file)
        except ValueError as error:
            refused += 1
            assert type(error) is ValueError and str(error).startswith(f"{file} ") and "\n" not in str(error)
    assert refused > 30
