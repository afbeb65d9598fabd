import importlib.util
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tests.models.torch_reference import arrays, assert_close, quick_jit
from tvt_jax.models import attend as module
from tvt_jax.models.attend import attend
from tvt_jax.train.plan import topology_devices


def value_and_gradients(function: Callable, *inputs):
    *inputs, direction = inputs

    def both(*inputs):
        value, pullback = jax.vjp(function, *inputs)
        return value, *pullback(direction)

    return quick_jit(both)(*inputs)


def assert_is_attention(function: Callable, *inputs, tolerance: float):
    """Value and gradients against jax's own, which holds all scores."""
    ours, theirs = (value_and_gradients(f, *inputs) for f in (function, jax.nn.dot_product_attention))
    for actual, expected in zip(ours, theirs, strict=True):
        assert_close(actual, expected, tolerance)


@pytest.mark.parametrize("tokens", [8, 9, 31], ids=["one block", "one and a bit", "four less one"])
def test_blocked(monkeypatch: pytest.MonkeyPatch, tokens: int):
    monkeypatch.setattr(module, "QUERY_BLOCK", 8)
    assert_is_attention(
        module._blocked, *arrays((2, tokens, 3, 4), (2, 11, 3, 4), (2, 11, 3, 4), (2, tokens, 3, 4)), tolerance=1e-6
    )


def test_splash(monkeypatch: pytest.MonkeyPatch):
    """The kernel for TPUs, interpreted, in float32; several tiles of queries and of keys."""
    monkeypatch.setattr(module, "_TILE", 128)
    shapes = [(1, 256, 2, 64), (1, 384, 2, 64), (1, 384, 2, 64), (1, 256, 2, 64)]
    assert_is_attention(partial(module._splash, interpret=True), *arrays(*shapes), tolerance=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs jax[tpu]")
@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_splash_fits_every_tpu(topology: str):
    """A compiler refuses tiles that take more vector memory than its chip has; a v4 has least."""
    mesh = Mesh(np.array(topology_devices(topology)[:1]), "device")
    everywhere = NamedSharding(mesh, PartitionSpec())
    part = jax.ShapeDtypeStruct((1, 4096, 1, 64), jnp.bfloat16, sharding=everywhere)
    gradients = jax.jit(lambda *parts: jax.vjp(module._splash, *parts[:3])[1](parts[3]))
    assert "splash_mha_dkv" in gradients.lower(part, part, part, part).compile().as_text()


@pytest.mark.parametrize(
    ("platform", "tokens", "others", "channels", "dtype", "kernel"),
    [
        ("tpu", 16384, 16384, 64, "bfloat16", "_splash"),
        ("tpu", 1024, 1024, 64, "float32", "_splash"),
        ("tpu", 256, 256, 64, "float32", "_blocked"),  # few enough for one block
        ("tpu", 16384, 77, 64, "bfloat16", "_blocked"),  # the text
        ("tpu", 3000, 3000, 64, "bfloat16", "_blocked"),  # no whole number of tiles
        ("tpu", 4096, 4096, 512, "bfloat16", "_blocked"),  # the VAE's one wide head
        ("gpu", 4096, 4096, 64, "bfloat16", "dot_product_attention"),
        ("gpu", 4096, 4096, 64, "float32", "_blocked"),  # cudnn has no float32
        ("cpu", 16384, 16384, 64, "bfloat16", "_blocked"),
    ],
)
def test_each_platform_has_its_kernel(platform: str, tokens: int, others: int, channels: int, dtype: str, kernel: str):
    query, key = (jnp.zeros((1, n, 1, channels), dtype) for n in (tokens, others))
    chosen = module._kernel(platform, query, key)
    assert getattr(chosen, "func", chosen).__name__ == kernel


@pytest.mark.parametrize("batch", [4, 3], ids=["split", "not divisible"])
def test_on_several_devices(monkeypatch: pytest.MonkeyPatch, batch: int):
    """Each attends to its own part of the batch, and nothing is exchanged."""
    monkeypatch.setattr(module, "QUERY_BLOCK", 8)
    inputs = arrays(*[(batch, 17, 3, 4)] * 3)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        ours = quick_jit(attend)(*inputs)
    assert_close(ours, jax.nn.dot_product_attention(*inputs), 1e-6)
