"""Upscaling pictures with a model folder."""

from tvt_jax.inference.upscaler import Upscaler, load

__all__ = ["Upscaler", "load"]
