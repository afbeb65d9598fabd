"""The platform that a program is traced for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

# What every platform can run.
ANY = "any"
_told: ContextVar[str | None] = ContextVar("told", default=None)


@contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Trace within for a platform that need not be here, or for `ANY`."""
    token = _told.set(platform)
    try:
        yield
    finally:
        _told.reset(token)


def platform() -> str:
    """Give the platform told by `traced_for`, or that of the mesh in use, or the default backend's."""
    mesh = jax.sharding.get_abstract_mesh()
    return _told.get() or (jax.default_backend() if mesh.empty else mesh.abstract_device.platform)


def on_one_cpu() -> bool:
    """Whether the program runs on a CPU, and no mesh splits it."""
    mesh = jax.sharding.get_abstract_mesh()
    return platform() == "cpu" and (mesh.empty or mesh.size == 1)
