"""Softmax attention that never holds all scores at once: one function, and the kernel that each platform has for it."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from tvt_jax.models.flash import Tile, flash
from tvt_jax.models.platform import ANY, platform
from tvt_jax.models.remat import PRODUCT

_FEW = 1024  # keys: all scores are held
# Scores that fit a core's cache, one head after the other; accelerators want products as large as memory allows.
_CPU_TILE = Tile(queries=1024, keys=512, all_heads=False)
_OTHER_TILE = Tile(queries=1024, keys=4096, all_heads=True)
_TILE = 1024  # tokens: what splash attention's tiles must divide
_WIDEST = 128  # channels of a head that fit the flash kernels


def attend(
    query: Float[Array, "b n heads d"], key: Float[Array, "b m heads d"], value: Float[Array, "b m heads d"]
) -> Float[Array, "b n heads d"]:
    """Softmax attention, softmax in float32.

    Within `jax.set_mesh` the kernel runs on each device's part of the batch, since the compiler cannot split one.
    Without a mesh it is chosen for the default backend.
    """
    target = platform()
    if target == ANY:
        by_platform = {"cpu": partial(flash, tile=_CPU_TILE), "default": partial(flash, tile=_OTHER_TILE)}
        return jax.lax.platform_dependent(query, key, value, **by_platform)
    mesh = jax.sharding.get_abstract_mesh()
    kernel = _kernel(target, query, key)
    if mesh.empty or mesh.size == 1:
        return kernel(query, key, value)
    batch = PartitionSpec(mesh.axis_names)
    if len(query) % mesh.size:  # a single image on many devices, as in evaluation: each does it all
        batch = PartitionSpec()
    return jax.shard_map(kernel, in_specs=batch, out_specs=batch, check_vma=False)(query, key, value)


def _kernel(target: str, query: Array, key: Array) -> Callable[[Array, Array, Array], Array]:
    """Choose the fastest way that the platform has for attention of this shape."""
    tokens, others, channels = query.shape[1], key.shape[1], query.shape[-1]
    if target == "tpu" and tokens % _TILE == others % _TILE == 0 and channels <= _WIDEST:
        return _splash
    if target == "cpu":
        return partial(flash, tile=_CPU_TILE)
    if others <= _FEW:
        return _plain
    if target in ("gpu", "cuda") and query.dtype != jnp.float32 and channels <= _WIDEST and channels % 8 == 0:
        return partial(jax.nn.dot_product_attention, implementation="cudnn")
    return partial(flash, tile=_OTHER_TILE)


def _plain(query: Array, key: Array, value: Array) -> Array:
    scores = jnp.einsum("bnhd,bmhd->bhnm", query, key, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5, axis=-1).astype(value.dtype)
    return jnp.einsum("bhnm,bmhd->bnhd", weights, value)


def _splash(query: Array, key: Array, value: Array, interpret: bool = False) -> Array:
    """Pallas kernel of jax for TPUs (splash attention); `interpret` runs it anywhere, slowly."""
    from jax.experimental.pallas.ops.tpu import splash_attention as splash  # half a second that others need not wait

    # The gradients by queries in a kernel of their own: the fused one multiplies less, but its tiles need vector memory
    # that the full-size step has not left on a v5e or v5p.
    sizes = splash.BlockSizes(
        block_q=_TILE,
        block_kv=_TILE,
        block_q_dkv=_TILE,
        block_kv_dkv=_TILE,
        block_kv_dkv_compute=_TILE,
        block_q_dq=_TILE,
        block_kv_dq=_TILE,
    )
    mask = splash.FullMask((query.shape[1], key.shape[1]))
    mask_of_heads = splash.MultiHeadMask([mask] * query.shape[2])
    kernel = splash.make_splash_mha_single_device(
        mask_of_heads, block_sizes=sizes, interpret=interpret, residual_checkpoint_name=PRODUCT
    )
    scaled = query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)
    heads_first = (part.swapaxes(1, 2) for part in (scaled, key, value))
    return jax.vmap(kernel)(*heads_first).swapaxes(1, 2)
