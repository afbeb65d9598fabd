"""A program for a CPU, kept on the disk and found by what it is made of: a new process need not trace it again.

jax keeps what it compiles too, but finds it by its text: tracing and lowering to it takes as long as a small picture.
"""

import hashlib
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.stages import Lowered

from tvt_jax.compilation_cache import processor, settings, suspended
from tvt_jax.files import write_whole
from tvt_jax.fingerprint import RESTORATION_CODE, code_fingerprint

_CHECKSUM = hashlib.sha256().digest_size


class Kept:
    """A jitted function whose executables are kept where jax keeps its own.

    On anything but one CPU, or where jax keeps none, it is the jitted function.
    """

    def __init__(self, jitted: Any, static: int) -> None:
        """Take a function that gives one array, and whose first `static` arguments are static, told by their repr."""
        self._jitted, self._static = jitted, static
        self._executables: dict[Hashable, Callable[..., Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Run it; read the executable, or compile it, at the first call with such arguments."""
        static, arrays = arguments[: self._static], arguments[self._static :]
        leaves, tree = jax.tree.flatten((arrays, {}))
        folder = _folder()
        if folder is None or not _on_one_cpu(leaves):
            return self._jitted(*arguments)
        key = (static, tree, *map(jax.typeof, leaves))
        if key not in self._executables:
            made_of = repr((self._jitted.__name__, key, code_fingerprint(RESTORATION_CODE), processor(), settings()))
            path = folder / f"tvt-{hashlib.sha256(made_of.encode()).hexdigest()}.executable"
            self._executables[key] = _read(path, tree) or _compile(path, self._jitted.lower(*arguments))
        return self._executables[key](*arrays)


def _folder() -> Path | None:
    """Give the folder where programs are kept, if they are."""
    folder = jax.config.values["jax_compilation_cache_dir"]
    return Path(folder) if folder and jax.config.values["jax_enable_compilation_cache"] else None


def _on_one_cpu(leaves: list[Any]) -> bool:
    first = jax.devices()[0]
    placed = {device for leaf in leaves if isinstance(leaf, jax.Array) for device in leaf.devices()}
    return first.platform == "cpu" and placed <= {first}


def _read(path: Path, tree: jax.tree_util.PyTreeDef) -> Callable[..., Any] | None:
    """Read an executable; None if there is none, or what is there is spoilt."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    checksum, program = data[:_CHECKSUM], data[_CHECKSUM:]
    if hashlib.sha256(program).digest() != checksum:
        return None
    device, trees = jax.devices()[0], (tree, jax.tree.structure(0))
    try:
        return serialize_executable.deserialize_and_load(program, *trees, device.client, [device])
    except Exception:  # whatever the runtime raises, compiling again helps
        return None


def _compile(path: Path, lowered: Lowered) -> Callable[..., Any]:
    """Compile it, and try to keep it."""
    # Of what jax itself has kept some functions are lost on the way to a second file.
    with suspended():
        compiled = lowered.compile()
    program, _, _ = serialize_executable.serialize(compiled)
    try:
        write_whole(path, hashlib.sha256(program).digest() + program)
    except OSError as error:
        print(f"warning: {path} can't be written, so the next process compiles again: {error}", file=sys.stderr)
    return compiled
