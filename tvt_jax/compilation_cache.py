"""Compiled programs are kept between runs."""

import os
from pathlib import Path

import jax


def enable() -> None:
    """Keep compiled programs in ~/.cache/tvt_jax (XDG_CACHE_HOME is honoured), unless jax is configured otherwise."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "tvt_jax"))
