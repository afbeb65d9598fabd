"""The pickles within PyTorch's files, read without running anything that they ask for."""

import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from convert.mapped import Refusal, brief

_MOST_DIMENSIONS = 64  # of numpy
_DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool "
    "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz".split()
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "UntypedStorage": "uint8",
    "storage.UntypedStorage": "uint8",
}
_PLAIN_TYPES = (
    "set frozenset dict list tuple str unicode int long float complex bool bytes range xrange slice Ellipsis"
).split()
_OPERATIONS = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 "
    "EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID"
).split()
# What training tools leave beside the weights: stood in for, never looked up.
_IGNORED_PREFIXES = (
    *("pytorch_lightning.", "lightning.", "omegaconf."),
    *("addict.", "easydict.", "ml_collections.config_dict.", "mmengine.config.", "yacs.config."),
    *("numpy.random._pickle.", "numpy.random.bit_generator.", "numpy.dtypes.", "numpy.ma."),
)
_IGNORED = {
    "_codecs.encode",
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"numpy.{part}.multiarray.{name}" for part in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{part}.numeric._frombuffer" for part in ("core", "_core")),
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.random.mtrand.RandomState",
    *(f"numpy.random.{name}" for name in ("_mt19937.MT19937", "_pcg64.PCG64", "_generator.Generator")),
    *(f"{part}.{kind}Path" for part in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    *(f"{part}.Pure{kind}Path" for part in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")),
    *(f"collections.{name}" for name in ("ChainMap", "Counter", "UserDict", "UserList", "defaultdict", "deque")),
    *("UserDict.IterableUserDict", "UserList.UserList"),  # of the same, in a pickle of protocol 2
    *("array.array", "array._array_reconstructor", "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "re._compile"),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta", "timezone")),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _PLAIN_TYPES),
    *(f"typing.{name}" for name in ("Any", "Union", "Optional", "List", "Dict", "Tuple")),
    *("torch.device", "torch.serialization._get_layout"),
    "torch.torch_version.TorchVersion",
}


@dataclass(frozen=True)
class Inert:
    """A stand-in for an object that is no tensor and was not made.

    Attributes:
        name: module and name of what would have made it.
    """

    name: str


@dataclass(frozen=True)
class Storage:
    """The numbers that one or more tensors are views of, kept outside the pickle.

    Attributes:
        key: its name within the file.
        dtype: type of its numbers; uint8 where PyTorch leaves them untyped.
        count: how many there are.
    """

    key: str
    dtype: np.dtype
    count: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.count * self.dtype.itemsize


# Makes a tensor of a storage: its type, its offset in numbers, its size, its strides in numbers.
MakeTensor = Callable[[Storage, np.dtype, int, tuple[int, ...], tuple[int, ...]], Any]


def load_pickle(stream: BytesIO, make_tensor: MakeTensor, storages: dict[str, Storage] | None = None) -> Any:
    """Read one pickle of dicts, lists, tuples, numbers, text and tensors; put the storages it names into `storages`.

    Raises:
        Refusal: it asks for anything else, or is damaged.
    """
    unpickler = _Unpickler(stream, make_tensor, {} if storages is None else storages)
    try:
        content = unpickler.load()
    except Refusal:
        raise
    except Exception as error:  # a hostile pickle can raise about anything out of the interpreter of pickles
        raise Refusal(f"holds a damaged pickle ({type(error).__name__}: {brief(str(error))})") from error
    if unpickler.stack or unpickler.metastack:
        raise Refusal("holds a damaged pickle, which leaves values over at its end")
    return content


@dataclass(frozen=True)
class _Function:
    """The stand-in for one of PyTorch's functions."""

    run: Callable[..., Any]


class _Operations(dict[int, Callable[[Any], None]]):
    """The pickle operations that weights need; the others can call functions, or take memory without end."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        names = [operation.name for operation in pickletools.opcodes if operation.code == chr(code)] or [hex(code)]
        raise Refusal(f"uses the pickle operation {names[0]}, which no tensor needs: refused")


# Python's own machine, in Python: the faster one in C takes as much memory as a pickle names.
class _Unpickler(pickle._Unpickler):
    stack: list[Any]
    metastack: list[list[Any]]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, stream: BytesIO, make_tensor: MakeTensor, storages: dict[str, Storage]) -> None:
        super().__init__(stream)
        self._make_tensor = make_tensor
        self._storages = storages
        self._globals: dict[str, Any] = {
            "collections.OrderedDict": _Function(lambda: {}),
            "torch.Size": _Function(_counts),
            "torch._utils._rebuild_tensor": _Function(self._rebuild),
            "torch._utils._rebuild_tensor_v2": _Function(self._rebuild),
            "torch._utils._rebuild_tensor_v3": _Function(self._rebuild),
            "torch._utils._rebuild_parameter": _Function(lambda tensor, *_: tensor),
            "torch._utils._rebuild_parameter_with_state": _Function(lambda tensor, *_: tensor),
        }
        self._globals |= {f"torch.{name}": dtype for name, dtype in _DTYPES.items()}
        self._globals |= {f"torch.{name}": _DTYPES[dtype] for name, dtype in _STORAGES.items()}

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name in self._globals:
            return self._globals[full_name]
        if full_name in _IGNORED or full_name.startswith(_IGNORED_PREFIXES):
            return Inert(full_name)
        raise Refusal(
            f"asks to run {brief(full_name).strip(chr(39))}, which no tensor needs: refused; "
            "if you trust its maker, save its tensors alone, as safetensors"
        )

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            # The old format has one part more, of views of storages, which has not been filled for long.
            case (str() as kind, np.dtype() as dtype, str() as key, _, int() as count, *views) if (
                kind == "storage" and count >= 0 and views in ([], [None])
            ):
                return self._storages.setdefault(key, Storage(key, dtype, count))
        raise Refusal(f"refers to {brief(pid)}, which is not a storage of numbers: it is damaged")

    def _rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
        # After whether it is trained and its hooks: its type, where not its storage's, and such marks as "negated".
        dtypes = [value for value in rest[2:] if isinstance(value, np.dtype)]
        if any(value for value in rest[2:] if not isinstance(value, np.dtype)):
            raise Refusal(f"has a tensor marked {brief(rest[2:])}, which is not supported: save a plain copy of it")
        if not isinstance(storage, Storage):
            raise Refusal(f"has a tensor of {brief(storage)}, which is not a storage of numbers: it is damaged")
        (offset,), size, stride = _counts((offset,)), _counts(size), _counts(stride)
        if len(size) != len(stride):
            raise Refusal(f"has a tensor of size {brief(size)} with strides {brief(stride)}: it is damaged")
        return self._make_tensor(storage, dtypes[0] if dtypes else storage.dtype, offset, size, stride)

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack[-1]
        if isinstance(function, _Function) and type(arguments) is tuple:
            self.stack[-1] = function.run(*arguments)
        elif not isinstance(function, Inert):
            raise Refusal(f"asks to run {brief(function)} on {brief(arguments)}: it is damaged")

    def load_newobj(self) -> None:
        _arguments, kind = self.stack.pop(), self.stack[-1]
        if not isinstance(kind, Inert):
            raise Refusal(f"asks for a new {brief(kind)}, which no tensor needs: refused")

    def load_build(self) -> None:
        _state, target = self.stack.pop(), self.stack[-1]
        # An ordered dict's state is its attributes: PyTorch keeps versions of modules there.
        if type(target) not in (dict, Inert):
            raise Refusal(f"asks to change {brief(target)}, which no tensor needs: refused")

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is not Inert:
            raise Refusal(f"appends to {brief(target)}, which is not a list: it is damaged")

    def load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.stack.append(self.read(length))  # pickle's own makes room for as much as the file claims

    def load_empty_set(self) -> None:
        self.stack.append(Inert("builtins.set"))  # one of its own would hash what the file holds

    def load_additems(self) -> None:
        self.pop_mark()
        if type(self.stack[-1]) is not Inert:
            raise Refusal(f"adds items to {brief(self.stack[-1])}, which is not a set: it is damaged")

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.stack.append(Inert("builtins.frozenset"))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def load_setitems(self) -> None:
        self._update(self.pop_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, Inert):
            raise Refusal(f"sets items of {brief(target)}, which is not a dict: it is damaged")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # No tuples: the hash of a deeply nested one overruns the stack of the process.
            if key is not None and type(key) not in (str, int, float, bool, bytes, Inert):
                raise Refusal(f"has {brief(key)} as a key of a dict, which is not text or a number: refused")
            if type(target) is dict:
                target[key] = value

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = _Operations(
        {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _OPERATIONS)}
    )
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.EMPTY_SET[0]] = load_empty_set
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _counts(numbers: Any) -> tuple[int, ...]:
    if type(numbers) is not tuple or len(numbers) > _MOST_DIMENSIONS or not all(map(_is_count, numbers)):
        raise Refusal(f"has {brief(numbers)} for a tensor's offset, size or strides: it is damaged")
    return numbers


def _is_count(number: Any) -> bool:
    return type(number) is int and number >= 0
