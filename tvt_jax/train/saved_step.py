"""A compiled step in a file: what one machine has compiled, another that has the same devices need not."""

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from typing import Any

import jax

from tvt_jax.compilation_cache import processor, settings
from tvt_jax.executable import from_bytes, to_bytes
from tvt_jax.files import write_whole
from tvt_jax.place import Place

# What makes programs of programs; of those that are not here nothing can depend.
_COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda12-pjrt", "jax-cuda13-pjrt")


def save(path: Place, lowered: Any, compiled: Any, mesh: jax.sharding.Mesh) -> None:
    """Write a compiled step, and before it a line of JSON that says what it was compiled from, by what and for what."""
    write_whole(path, json.dumps(_facts(lowered, mesh)).encode() + b"\n" + to_bytes(compiled))


def load(path: Place, lowered: Any, mesh: jax.sharding.Mesh) -> Any | None:
    """Read a compiled step, if it is the one that compiling `lowered` would give; else say why not, and return None.

    Reading one can run what its writer wanted, as unpickling does: read your own alone.
    """
    try:
        with path.open("rb") as file:
            header, program = json.loads(file.readline()), file.read()
        if reasons := list(_differences(header, _facts(lowered, mesh))):
            raise ValueError("; ".join(reasons))
        return from_bytes(program, lowered.in_tree, lowered.out_tree, list(mesh.devices.flat))
    except Exception as error:  # the file may hold anything, and the runtime raises many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"warning: the saved step {path} is not used: {reason}", file=sys.stderr, flush=True)
        return None


def _differences(saved: dict[str, str], wanted: dict[str, str]) -> Iterator[str]:
    for name, value in wanted.items():
        if saved.get(name) == value:
            continue
        if name == "program":
            yield "it is of another program, so the configuration or the code is not the same"
        else:
            yield f"its {name} is {saved.get(name)!r}, here it is {value!r}"


def _facts(lowered: Any, mesh: jax.sharding.Mesh) -> dict[str, str]:
    """Tell all that a compiled step depends on."""
    return {
        "compiler": ", ".join(_versions()),
        "devices": _describe(mesh),
        "settings": settings(),
        "program": hashlib.sha256(lowered.as_text().encode()).hexdigest(),
    }


def _versions() -> Iterator[str]:
    for name in _COMPILERS:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def _describe(mesh: jax.sharding.Mesh) -> str:
    """Name the devices and their order in the mesh; programs for a CPU want its instructions, too."""
    devices = list(mesh.devices.flat)
    kind = processor() if devices[0].platform == "cpu" else devices[0].device_kind
    shape = " x ".join(f"{size} {name}" for name, size in mesh.shape.items())
    return f"{shape} of {kind}, {' '.join(str(device.id) for device in devices)}"
