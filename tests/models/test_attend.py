import importlib.util
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tests.models.torch_reference import arrays, assert_close, quick_jit
from tvt_jax.models import attend as module
from tvt_jax.models import remat
from tvt_jax.models.attend import attend
from tvt_jax.models.flash import Tile, flash
from tvt_jax.train.flops import count_flops
from tvt_jax.train.topology import topology_devices


def value_and_gradients(function: Callable, *inputs):
    *inputs, direction = inputs

    def both(*inputs):
        value, pullback = jax.vjp(function, *inputs)
        return value, *pullback(direction)

    return quick_jit(both)(*inputs)


def torchs(query, key, value, direction):
    """Value and gradients by torch in float64."""
    parts = [torch.tensor(np.asarray(part, np.float64)).transpose(1, 2) for part in (query, key, value)]
    for part in parts:
        part.requires_grad_()
    result = torch.nn.functional.scaled_dot_product_attention(*parts)
    result.backward(torch.tensor(np.asarray(direction, np.float64)).transpose(1, 2))
    return [part.detach().transpose(1, 2).numpy() for part in (result, *(part.grad for part in parts))]


def assert_is_attention(function: Callable, *inputs, tolerance: float):
    """Value and gradients against torch's in float64."""
    for actual, expected in zip(value_and_gradients(function, *inputs), torchs(*inputs), strict=True):
        assert_close(np.asarray(actual, np.float64), expected, tolerance)


def inputs_of(tokens: int, others: int, heads: int = 3, channels: int = 4) -> list[np.ndarray]:
    """Queries, keys, values and a direction, two images of them."""
    return arrays(*((2, n, heads, channels) for n in (tokens, others, others, tokens)))


@pytest.mark.parametrize("all_heads", [True, False])
@pytest.mark.parametrize(
    ("tokens", "others"), [(8, 6), (9, 11), (31, 31), (1, 13), (64, 5)], ids=lambda count: str(count)
)
def test_flash(tokens: int, others: int, all_heads: bool):
    """Of one block, of several, of some that are padded: float32's 6e-8 in sums of at most 64."""
    tile = Tile(queries=8, keys=6, all_heads=all_heads)
    assert_is_attention(partial(flash, tile=tile), *inputs_of(tokens, others), tolerance=1e-6)


def test_flash_of_bfloat16():
    """Rounds to 8 bits what goes into products and what comes out: 2e-3 each, some of them in turn."""
    inputs = [jnp.asarray(part, jnp.bfloat16) for part in inputs_of(31, 17, channels=16)]
    results = value_and_gradients(partial(flash, tile=Tile(8, 6, False)), *inputs)
    assert {result.dtype for result in results} == {jnp.dtype(jnp.bfloat16)}
    assert_is_attention(partial(flash, tile=Tile(8, 6, False)), *inputs, tolerance=1e-2)


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_flash_of_large_scores(size: float):
    """Nothing overflows, padded keys or not: exp(88) is float32's last. One weight is nearly all."""
    *parts, direction = inputs_of(9, 11)
    parts[0] = parts[0] * np.float32(size)
    result, *gradients = value_and_gradients(partial(flash, tile=Tile(8, 6, False)), *parts, direction)
    assert_close(np.asarray(result), torchs(*parts, direction)[0], 1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("tokens", "others"), [(1500, 1500), (1030, 77)], ids=["the image", "the text"])
def test_on_a_cpu(tokens: int, others: int):
    """In blocks as large as they are; sums of 1,500."""
    assert_is_attention(attend, *inputs_of(tokens, others, heads=2, channels=8), tolerance=2e-6)


@pytest.mark.parametrize("others", [1025, 77])
def test_where_a_platform_has_no_kernel(others: int):
    query, key = jnp.zeros((2, 1030, 2, 8)), jnp.zeros((2, others, 2, 8))
    kernel = module._kernel("tpu", query, key)
    assert_is_attention(kernel, *inputs_of(1030, others, heads=2, channels=8), tolerance=2e-6)


def test_products_keep_what_the_backward_pass_needs():
    """The sums as well as the result: with either missing, attention would be computed again."""
    query = jnp.zeros((1, 16, 2, 8))
    product = 2 * 2 * 16 * 16 * 8

    def loss(query, policy):
        block = jax.checkpoint(lambda x: remat.product(flash(x, x, x, Tile(8, 6, False))), policy=policy)
        return jnp.sin(block(query)).sum()

    def products(policy):
        return count_flops(jax.make_jaxpr(jax.grad(partial(loss, policy=policy)))(query).jaxpr).compiler / product

    padded = 18 / 16  # three blocks of six keys
    assert products(remat._POLICIES["products"]) == 7 * padded
    assert products(remat._POLICIES["blocks"]) == 9 * padded


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
        ("tpu", 256, 256, 64, "float32", "_plain"),  # few enough to hold all scores
        ("tpu", 16384, 77, 64, "bfloat16", "_plain"),  # the text
        ("tpu", 3000, 3000, 64, "bfloat16", "flash"),  # no whole number of tiles
        ("tpu", 4096, 4096, 512, "bfloat16", "flash"),  # the VAE's one wide head
        ("gpu", 4096, 4096, 64, "bfloat16", "dot_product_attention"),
        ("gpu", 4096, 4096, 64, "float32", "flash"),  # cudnn has no float32
        ("cpu", 16384, 16384, 64, "bfloat16", "flash"),
    ],
)
def test_each_platform_has_its_kernel(platform: str, tokens: int, others: int, channels: int, dtype: str, kernel: str):
    query, key = (jnp.zeros((1, n, 1, channels), dtype) for n in (tokens, others))
    chosen = module._kernel(platform, query, key)
    assert getattr(chosen, "func", chosen).__name__ == kernel


@pytest.mark.parametrize("batch", [4, 3], ids=["split", "not divisible"])
def test_on_several_devices(monkeypatch: pytest.MonkeyPatch, batch: int):
    """Each attends to its own part of the batch, and nothing is exchanged."""
    monkeypatch.setattr(module, "_CPU_TILE", Tile(8, 6, False))
    inputs = arrays(*[(batch, 17, 3, 4)] * 3)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        ours = quick_jit(attend)(*inputs)
    assert_close(ours, jax.nn.dot_product_attention(*inputs), 1e-6)
