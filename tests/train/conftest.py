import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from proofs import toy
from tests.buckets import bucket

__all__ = ["bucket"]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return toy.write_images(tmp_path_factory.mktemp("toy") / "images")


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory):
    """Most runs here compile the same programs: a cache of their own makes the tests three times faster."""
    changes = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in changes}
    _configure(changes)
    yield
    _configure(before)


def _configure(values):
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
