"""Compiled programs as bytes, for another process with the same devices, libraries and settings."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import serialize_executable
from jax.stages import Compiled

_CHECKSUM = hashlib.sha256().digest_size


def to_bytes(compiled: Compiled) -> bytes:
    """Write a program that was compiled in this process: of one that was read, some functions are lost."""
    program, _, _ = serialize_executable.serialize(compiled)
    return hashlib.sha256(program).digest() + program


def from_bytes(
    data: bytes, in_tree: jax.tree_util.PyTreeDef, out_tree: jax.tree_util.PyTreeDef, devices: Sequence[jax.Device]
) -> Callable[..., Any]:
    """Read a program; this can run what its writer wanted, as unpickling does: read your own alone.

    Args:
        data: what `to_bytes` gave.
        in_tree: of the arguments, ((positional, ...), {name: ...}).
        out_tree: of the result.
        devices: that it was compiled for, in their order.

    Raises:
        ValueError: it is cut off or spoilt.
    """
    checksum, program = data[:_CHECKSUM], data[_CHECKSUM:]
    if hashlib.sha256(program).digest() != checksum:
        raise ValueError("it is cut off, or was changed")
    return serialize_executable.deserialize_and_load(program, in_tree, out_tree, devices[0].client, devices)
