"""Compiled programs are kept between runs."""

import hashlib
import os
import platform
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
_OPTIONS = ("jax_disable_most_optimizations",)
_suspending = threading.Lock()


def enable() -> None:
    """Keep compiled programs in ~/.cache/tvt_jax (XDG_CACHE_HOME is honoured), unless jax is configured otherwise."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "tvt_jax"))


def disable() -> None:
    """Neither read nor keep compiled programs from now on: nothing can write a second time what was read."""
    jax.config.update("jax_enable_compilation_cache", False)
    _ask_again()


@contextmanager
def suspended() -> Iterator[None]:
    """Neither read nor keep compiled programs within the block, which threads enter one after the other."""
    with _suspending:
        before = jax.config.values["jax_enable_compilation_cache"]
        disable()
        try:
            yield
        finally:
            jax.config.update("jax_enable_compilation_cache", before)
            _ask_again()


def _ask_again() -> None:
    """Have jax look at the setting, which it asks for once."""
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()


def settings() -> str:
    """Tell how the compiler was told to work, where that does not show in a program."""
    told = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
    return " ".join([*told, *(name for name in _OPTIONS if jax.config.values[name])])


def processor() -> str:
    """Name the instructions that this machine's processor understands."""
    file = Path("/proc/cpuinfo")
    told = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", file.read_text(), re.MULTILINE) if file.is_file() else None
    features = told[1] if told else platform.processor()
    return f"{platform.machine()} {hashlib.sha256(features.encode()).hexdigest()[:8]}"
