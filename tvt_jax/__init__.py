"""TVT, transfer VAE training for real-world super-resolution, in JAX.

`tvt_jax.load(MODEL)` gives an upscaler; everything else is imported from its own module.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Importing the package must stay cheap: jax is only loaded by who upscales.
    if name == "load":
        from tvt_jax.inference import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
