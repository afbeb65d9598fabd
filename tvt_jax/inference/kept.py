"""A program for a CPU, kept on the disk and found by what it is made of: a new process need not trace it again.

jax keeps what it compiles too, but finds it by its text: tracing and lowering to it takes as long as a small picture.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
from jax.stages import Lowered

from tvt_jax.compilation_cache import processor, settings, suspended
from tvt_jax.executable import from_bytes, to_bytes
from tvt_jax.files import write_whole
from tvt_jax.fingerprint import RESTORATION_CODE, code_fingerprint

# A program that none has read for so long is most likely one of older code.
SECONDS_UNUSED = 30 * 24 * 3600
# What a trace depends on beside its arguments.
_TRACED = ("jax_default_matmul_precision", "jax_enable_x64")


class Kept:
    """A jitted function whose executables are kept where jax keeps its own.

    On anything but one CPU, or where jax keeps none on this machine, it is the jitted function.
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
        key = (static, tree, *map(jax.typeof, leaves), *(jax.config.values[name] for name in _TRACED))
        if key not in self._executables:
            made_of = repr((self._jitted.__name__, key, code_fingerprint(RESTORATION_CODE), processor(), settings()))
            path = folder / f"tvt-{hashlib.sha256(made_of.encode()).hexdigest()}.executable"
            self._executables[key] = _read(path, tree) or _compile(path, self._jitted.lower(*arguments))
        return self._executables[key](*arrays)


def _folder() -> Path | None:
    """Give the folder where programs are kept, if they are, and on this machine: jax's may lie in a bucket."""
    folder, kept, eager = (
        jax.config.values[f"jax_{name}"]
        for name in ("compilation_cache_dir", "enable_compilation_cache", "disable_jit")
    )
    return Path(folder) if folder and kept and not eager and "://" not in folder else None


def _on_one_cpu(leaves: list[Any]) -> bool:
    first = jax.devices()[0]
    placed = {device for leaf in leaves if isinstance(leaf, jax.Array) for device in leaf.devices()}
    return first.platform == "cpu" and placed <= {first}


def _read(path: Path, tree: jax.tree_util.PyTreeDef) -> Callable[..., Any] | None:
    """Read an executable; None if there is none, or what is there is spoilt."""
    try:
        program = from_bytes(path.read_bytes(), tree, jax.tree.structure(0), jax.devices()[:1])
    except Exception:  # whatever the runtime raises, compiling again helps
        return None
    with suppress(OSError):  # others may have kept it, for all to read
        path.touch()
    return program


def _compile(path: Path, lowered: Lowered) -> Callable[..., Any]:
    """Compile it, and try to keep it."""
    # Of what jax itself has kept some functions are lost on the way to a second file.
    with suspended():
        compiled = lowered.compile()
    try:
        _forget(path.parent)
        write_whole(path, to_bytes(compiled))
    except OSError as error:
        print(f"warning: {path} can't be written, so the next process compiles again: {error}", file=sys.stderr)
    return compiled


def _forget(folder: Path) -> None:
    """Remove the programs that have not been used for long."""
    for path in folder.glob("tvt-*.executable"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > SECONDS_UNUSED:
                path.unlink()
