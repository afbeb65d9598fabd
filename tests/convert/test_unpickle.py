import copyreg
import os
import pickle
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from convert.torch_file import read_torch
from convert.unpickle import Inert
from tests.convert.torch_files import (
    CANARY,
    START,
    STOP,
    call,
    name,
    number,
    numbers,
    parts,
    state_dict,
    storage,
    tensor,
    text,
    write_torch,
)

SYSTEM = ("os", "system")
ORDERED_DICT = call("collections", "OrderedDict")
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
PERSISTENT = b"Q"


def global_on_stack(module: str, member: str) -> bytes:
    return text(module) + text(member) + pickle.STACK_GLOBAL


def persistent(*values: bytes) -> bytes:
    return parts(*values) + PERSISTENT


def long(operation: bytes, length: int, size: int) -> bytes:
    return operation + length.to_bytes(size, "little")


# What asks for a function, and the name by which it is to be refused.
CALLS = {
    "os.system": call(*SYSTEM, text(CANARY)),
    "posix.system": call("posix", "system", text(CANARY)),
    "nt.system": call("nt", "system", text(CANARY)),
    "builtins.eval": call("builtins", "eval", text(f"__import__('os').system('{CANARY}')")),
    "builtins.exec": call("builtins", "exec", text(f"import os; os.system('{CANARY}')")),
    "builtins.getattr": call("builtins", "getattr", name("os", "environ"), text("clear")),
    "__builtin__.eval": call("__builtin__", "eval", text(f"__import__('os').system('{CANARY}')")),
    "builtins.__import__": call("builtins", "__import__", text("os")),
    "builtins.open": call("builtins", "open", text("canary"), text("w")),
    "builtins.bytearray": call("builtins", "bytearray", number(2**40)),
    "subprocess.Popen": call("subprocess", "Popen", parts(text("touch"), text("canary"))),
    "importlib.import_module": call("importlib", "import_module", text("antigravity")),
    "torch.load": call("torch", "load", text("other.pt")),
    "torch.hub.load": call("torch.hub", "load", text("someone/something"), text("model")),
    "torch.storage._load_from_bytes": call("torch.storage", "_load_from_bytes", text("")),
    "torch.jit._script.load": call("torch.jit._script", "load", text("other.pt")),
    "torch._utils._rebuild_sparse_tensor": call("torch._utils", "_rebuild_sparse_tensor", text("coo")),
    "copy_reg._reconstructor": call("copy_reg", "_reconstructor", name(*SYSTEM)),
    "functools.partial": call("functools", "partial", name(*SYSTEM), text(CANARY)),
    "operator.attrgetter": call("operator", "attrgetter", text("system")),
    "runpy._run_code": call("runpy", "_run_code", text("import os")),
    "pytorch_lightningx.Callback": call("pytorch_lightningx", "Callback"),
    "torch._utils.sys.modules": global_on_stack("torch._utils", "sys.modules"),
    "torch._utils._rebuild_tensor_v2.__globals__": global_on_stack("torch._utils", "_rebuild_tensor_v2.__globals__"),
    "collections.OrderedDict.__init__": global_on_stack("collections.OrderedDict", "__init__"),
}
# The same by other ways than a plain call.
WAYS = {
    "as a new object": (name("subprocess", "Popen") + parts(text("touch")) + pickle.NEWOBJ, "subprocess.Popen"),
    "as a new object with keywords": (name("subprocess", "Popen") + b")}" + pickle.NEWOBJ_EX, "subprocess.Popen"),
    "by INST": (b"(" + text(CANARY) + b"ios\nsystem\n", "INST"),
    "by OBJ": (b"(" + name(*SYSTEM) + text(CANARY) + b"o", "os.system"),
    "by OBJ of a known class": (b"(" + name("collections", "OrderedDict") + text(CANARY) + b"o", "OBJ"),
    "by a registered extension": (b"\x82\xf0" + parts(text(CANARY)) + b"R", "EXT1"),
    "by a registered extension of two bytes": (b"\x83\xf0\x00" + parts(text(CANARY)) + b"R", "EXT2"),
    "by a registered extension of four bytes": (b"\x84\xf0\x00\x00\x00" + parts(text(CANARY)) + b"R", "EXT4"),
    "to set a dict's state": (ORDERED_DICT + b"}" + text("__setstate__") + name(*SYSTEM) + b"sb", "os.system"),
    "as an argument of an inert one": (call("pytorch_lightning.core", "Module", name(*SYSTEM)), "os.system"),
    "as an argument of a defaultdict": (call("collections", "defaultdict", name(*SYSTEM)), "os.system"),
    "within a set": (pickle.EMPTY_SET + b"(" + name(*SYSTEM) + pickle.ADDITEMS, "os.system"),
    "by a method of what is inert": (global_on_stack("pathlib", "PosixPath.touch"), "pathlib.PosixPath.touch"),
    "as a key": (b"}" + name(*SYSTEM) + b"Ns", "os.system"),
    "as a storage": (persistent(text("storage"), name(*SYSTEM), text("0"), text("cpu"), number(6)), "os.system"),
    "in a later frame": (long(pickle.FRAME, 11, 8) + name(*SYSTEM), "os.system"),
    "from text on the stack": (text(CANARY) + parts(text(CANARY)) + b"R", "touch canary"),
    "of a type of numbers": (name("torch", "float32") + parts(text(CANARY)) + b"R", "float32"),
    "of a dict": (ORDERED_DICT + parts(text(CANARY)) + b"R", "asks to run {}"),
    "as a new dict": (name("collections", "OrderedDict") + b")" + pickle.NEWOBJ, "asks for a new"),
    "by changing PyTorch's function": (REBUILD + b"}" + text("run") + text("x") + b"sb", "asks to change"),
    "by changing a tensor": (tensor(storage(), (6,), (1,)) + b"}" + text("shape") + b"Nsb", "asks to change"),
    "by an old persistent name": (b"Pos.system\n", "PERSID"),
    "by Python's old text": (b"S'" + CANARY.encode() + b"'\n", "STRING"),
}
# What is merely broken, or would take the memory.
DAMAGED = {
    "nothing": (b"", "EOFError"),
    "no end": (START + text("a"), "EOFError"),
    "no value": (START + STOP, "IndexError"),
    "no such operation": (START + b"\xff.", "0xff"),
    "an unknown protocol": (b"\x80\x09N.", "ValueError"),
    "values over": (START + b"NN.", "leaves values over"),
    "a mark over": (START + b"N(N.", "leaves values over"),
    "a tuple of nothing": (START + b"\x87.", "IndexError"),
    "an end without a start": (START + b"t.", "IndexError"),
    "a mark that is missing": (START + b"Nu.", "IndexError"),
    "an unknown memory": (START + b"h\x07.", "UnpicklingError"),
    "half an item": (START + b"}(Nu.", "ValueError"),
    "an item of a list": (START + b"]NNs.", "sets items of []"),
    "an item of a tensor": (START + tensor(storage(), (6,), (1,)) + b"NNs.", "sets items of an array of float32"),
    "an item of a set of text": (START + text("a") + b"(N" + pickle.ADDITEMS + STOP, "adds items to 'a'"),
    "a list's end on a dict": (START + b"}Na.", "appends to {}"),
    "a tuple as key": (START + b"}" + b"(" + b")" * 9 + b"t" + b"Ns.", "as a key"),
    "a key nested without end": (START + b"})" + b"\x85" * 50_000 + b"Ns.", "as a key"),
    "a key that grows at every level": (
        START + b")q\0" + b"(h\0h\0h\0h\0h\0h\0h\0h\0tq\0" * 50 + b"}h\0Ns.",
        "as a key",
    ),
    "a list as key": (START + b"}]Ns.", "as a key"),
    "text that is not": (START + b"X\x02\x00\x00\x00\xff\xfe.", "UnicodeDecodeError"),
    "text longer than the file": (START + long(b"X", 2**32 - 1, 4) + b"a.", "EOFError"),
    "text of 8 EiB": (START + long(pickle.BINUNICODE8, 2**63 - 1, 8) + b"a.", "EOFError"),
    "text beyond counting": (START + long(pickle.BINUNICODE8, 2**64 - 1, 8) + b"a.", "UnpicklingError"),
    "bytes of 8 EiB": (START + long(pickle.BINBYTES8, 2**63 - 1, 8) + b"a.", "EOFError"),
    "a frame of 8 EiB": (START + long(pickle.FRAME, 2**63 - 1, 8) + b"N", "EOFError"),
    "frames in frames": (START + long(pickle.FRAME, 20, 8) * 2 + b"N.", "UnpicklingError"),
    "a number of 2 GiB": (START + long(pickle.LONG4, 2**31 - 1, 4) + b"a.", "LONG4"),
    "an array of 8 EiB": (START + long(pickle.BYTEARRAY8, 2**63 - 1, 8) + b"a.", "EOFError"),
    "a buffer from outside": (START + pickle.NEXT_BUFFER + STOP, "NEXT_BUFFER"),
    "text as a storage": (START + text("0") + PERSISTENT + STOP, "refers to '0'"),
    "a number as a storage": (START + number(0) + PERSISTENT + STOP, "refers to 0"),
    "too few parts": (START + persistent(text("storage")) + STOP, "refers to"),
    "too many parts": (START + persistent(*[text("storage")] * 9) + STOP, "refers to"),
    "a module": (START + persistent(text("module"), *[text("x")] * 3) + STOP, "refers to"),
    "a storage of another kind": (
        START + persistent(text("module"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(6)) + STOP,
        "refers to",
    ),
    "a storage of complex numbers": (START + storage("ComplexFloatStorage") + STOP, "torch.ComplexFloatStorage"),
    "a storage by a number": (
        START + persistent(text("storage"), name("torch", "FloatStorage"), number(0), text("cpu"), number(6)) + STOP,
        "refers to",
    ),
    "a storage of less than nothing": (START + storage(count=-1) + STOP, "refers to"),
    "a view of a storage": (
        START
        + persistent(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(6), text("view"))
        + STOP,
        "refers to",
    ),
    "a tensor of text": (state_dict(a=tensor(text("x"), (1,), (1,))), "a tensor of 'x'"),
    "a negative size": (state_dict(a=tensor(storage(), (-6,), (1,))), "has (-6,)"),
    "a negative stride": (state_dict(a=tensor(storage(), (6,), (-1,), 5)), "has (-1,)"),
    "a negative offset": (state_dict(a=tensor(storage(), (2,), (1,), -1)), "has (-1,)"),
    "a size without its stride": (state_dict(a=tensor(storage(), (2, 3), (1,))), "of size (2, 3) with strides (1,)"),
    "a size in a list": (
        state_dict(a=call("torch._utils", "_rebuild_tensor_v2", storage(), number(0), b"]", numbers(()))),
        "has []",
    ),
    "a size that is true": (
        state_dict(a=call("torch._utils", "_rebuild_tensor", storage(), number(0), b"\x88\x85", numbers((1,)))),
        "has (True,)",
    ),
    "more dimensions than there are": (state_dict(a=tensor(storage(), (1,) * 65, (1,) * 65)), "has (1, 1"),
    "too few arguments": (state_dict(a=call("torch._utils", "_rebuild_tensor_v2", storage())), "TypeError"),
    "too many arguments": (state_dict(a=call("collections", "OrderedDict", b"]")), "TypeError"),
    "arguments in a list": (START + REBUILD + b"]R.", "asks to run"),
    "a size too large": (state_dict(a=tensor(storage(), (7,), (1,))), "reaches beyond storage '0'"),
    "a stride too large": (state_dict(a=tensor(storage(), (2, 3), (4, 1))), "reaches beyond storage '0'"),
    "an offset too large": (state_dict(a=tensor(storage(), (6,), (1,), 1)), "reaches beyond storage '0'"),
    "an offset beyond counting": (state_dict(a=tensor(storage(), (), (), 2**200)), "reaches beyond storage '0'"),
    "a size beyond counting": (state_dict(a=tensor(storage(), (2**62, 4), (4, 1))), "expands"),
    "a stride beyond counting": (state_dict(a=tensor(storage(), (1, 6), (2**70, 1))), "cannot hold"),
    "nothing, at a size beyond counting": (state_dict(a=tensor(storage(), (0, 2**70), (1, 1))), "cannot hold"),
    "one number made a petabyte": (state_dict(a=tensor(storage(), (2**48,), (0,))), "expands"),
    "a storage beyond its member": (state_dict(a=tensor(storage(count=7), (6,), (1,))), "has 24 of the 28 bytes"),
    "a storage beyond counting": (state_dict(a=tensor(storage(count=2**99), (6,), (1,))), "has 24 of the"),
    "a storage that is missing": (state_dict(a=tensor(storage(key="../1"), (6,), (1,))), "lacks the storage '../1'"),
    "numbers to be negated": (
        state_dict(a=tensor(storage(), (6,), (1,), 0, b"}" + text("neg") + b"\x88s")),
        "marked ({'neg': True},)",
    ),
}
REFUSED = (
    {f"calls {key}": (START + value + STOP, key) for key, value in CALLS.items()}
    | {key: (START + value + STOP, says) for key, (value, says) in WAYS.items()}
    | DAMAGED
)


@pytest.fixture(autouse=True)
def nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = []
    monkeypatch.chdir(tmp_path)
    for module, function in ((os, "system"), (subprocess, "Popen")):
        monkeypatch.setattr(module, function, lambda *arguments, **_: run.append(arguments))
    # A plain unpickler of before has filled the cache, so that the extension would no longer be looked up.
    copyreg.add_extension(*SYSTEM, 240)
    copyreg._extension_cache[240] = os.system
    yield
    copyreg.remove_extension(*SYSTEM, 240)
    copyreg._extension_cache.pop(240, None)
    assert not run
    assert not Path("canary").exists()


def test_the_canary_would_sing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sung = []
    monkeypatch.setattr(os, "system", sung.append)
    pickle.loads(START + CALLS["os.system"] + STOP)
    assert sung == [CANARY]


@pytest.mark.parametrize("pickled, says", REFUSED.values(), ids=REFUSED.keys())
def test_anything_but_tensors_is_refused(tmp_path: Path, pickled: bytes, says: str):
    file = write_torch(tmp_path / "hostile.ckpt", pickled)
    tracemalloc.start()
    with pytest.raises(ValueError) as caught:
        read_torch(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert message.startswith(f"{file} ") and says in message
    assert "\n" not in message and len(message) < len(str(file)) + 500
    assert peak < 50e6


def test_a_name_cannot_break_the_message(tmp_path: Path):
    file = write_torch(tmp_path / "a.ckpt", START + global_on_stack("os\n\x1b[2J" + "x" * 10**6, "y\u2028") + STOP)
    with pytest.raises(ValueError, match=r"asks to run os\\n\\x1b\[2Jxxx") as caught:
        read_torch(file)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < len(str(file)) + 500


def test_a_far_memory_takes_none(tmp_path: Path):
    file = write_torch(tmp_path / "a.ckpt", START + text("a") + long(b"r", 2**32 - 1, 4) + STOP)
    assert read_torch(file) == "a"


def test_a_pickle_in_bytes_stays_bytes(tmp_path: Path):
    inner = START + CALLS["os.system"] + STOP
    file = write_torch(tmp_path / "a.ckpt", pickle.dumps({"state": inner}, protocol=3))
    assert read_torch(file) == {"state": inner}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_beside_the_weights_are_inert_in_every_protocol(tmp_path: Path, protocol: int):
    neighbours = {"moments": np.arange(6.0).reshape(2, 3), "fixed": np.arange(3)[::2], "number": np.float32(2)}
    read = read_torch(write_torch(tmp_path / "a.ckpt", pickle.dumps({"step": 3, **neighbours}, protocol=protocol)))
    assert read["step"] == 3
    assert all(type(read[name]) is Inert for name in neighbours)


def test_a_long_array_of_bytes_takes_only_what_is_there(tmp_path: Path):
    file = write_torch(tmp_path / "a.ckpt", START + pickle.BYTEARRAY8 + (1 << 60).to_bytes(8, "little") + b"ab" + STOP)
    with pytest.raises(ValueError, match="holds a damaged pickle"):
        read_torch(file)


def test_what_lightning_leaves_is_inert(tmp_path: Path):
    checkpoint = name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    made = checkpoint + parts(text(CANARY)) + pickle.NEWOBJ + b"}" + text("x") + b"Nsb"
    filled = made + text("key") + text("value") + b"s" + text("item") + b"a"
    called = call("lightning.os", "system", text(CANARY))
    scalar = call("numpy.core.multiarray", "scalar", call("numpy", "dtype", text("f8")), call("_codecs", "encode"))
    states = b"}" + checkpoint + b"}" + text("score") + scalar + b"ss"
    pickled = state_dict(callbacks=states, made=made, filled=filled, called=called, device=call("torch", "device"))
    read = read_torch(write_torch(tmp_path / "v2-1_512-ema-pruned.ckpt", pickled))
    callback = Inert("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint")
    assert read == {
        "callbacks": {callback: {"score": Inert("numpy.core.multiarray.scalar")}},
        "made": callback,
        "filled": callback,
        "called": Inert("lightning.os.system"),
        "device": Inert("torch.device"),
    }


def test_tensors_written_by_hand_are_read(tmp_path: Path):
    """The writer of these tests writes what can be read, where it is not told otherwise."""
    data = np.arange(6, dtype=np.float32)
    pickled = state_dict(a=tensor(storage(), (2, 3), (3, 1)), b=tensor(storage(), (0,), (1,), 9))
    read = read_torch(write_torch(tmp_path / "a.ckpt", pickled, data.tobytes()))
    np.testing.assert_array_equal(read["a"], data.reshape(2, 3))
    assert read["b"].shape == (0,)
