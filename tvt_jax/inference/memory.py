"""How much memory is free, and how much a picture takes, so that tiles fit and what can't fit is told beforehand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tvt_jax.inference.tiling import Grid
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

# Live at once in the decoder at full resolution, in maps of its widest level there; from XLA's memory analysis of the
# embedded model's.
MAPS_ALIVE = 8
# Inputs and results of the programs, a pixel; and what giving colours back holds, a pixel of the one tile it works on.
BYTES_PER_TILED_PIXEL = 60
BYTES_PER_FINISHED_PIXEL = 150
# Python, jax and the compiled programs. These are fitted to peaks that `python -m benchmarks.memory` measured.
BASE = 870_000_000

_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def device_bytes(
    vae: AutoencoderKLConfig, unet: UNet2DConditionConfig, dtype: jnp.dtype, grid: Grid, batch: int
) -> int:
    """Peak memory of the networks over `batch` tiles at a time: the decoder's at full resolution, or attention's."""
    latents = batch * grid.rows.tile * grid.columns.tile
    maps = MAPS_ALIVE * vae.block_out_channels[0] * dtype.itemsize + BYTES_PER_TILED_PIXEL
    return max(latents * vae.downsampling**2 * maps, batch * attention_bytes(unet, grid))


def attention_bytes(unet: UNet2DConditionConfig, grid: Grid) -> int:
    """Give the scores of one block of queries in float32, twice, at the finest level that attends."""
    level = finest_attention(unet)
    tokens = (grid.rows.tile >> level) * (grid.columns.tile >> level)
    return 2 * 4 * unet.attention_heads[level] * min(tokens, 1024) * tokens


def finest_attention(unet: UNet2DConditionConfig) -> int:
    """Give the first level that attends; the last one does in the middle block."""
    return [*unet.down_block_types[:-1], CROSS_ATTENTION_BLOCK].index(CROSS_ATTENTION_BLOCK)


def host_bytes(vae: AutoencoderKLConfig, grid: Grid, whole: bool, adain: bool, dtype: np.dtype) -> int:
    """Give what is held of a picture: the result, latents before and after, the tile that gets its colours.

    Between its two passes, adain keeps 16 bits; a result of 16 bits takes their place.
    """
    pixels = grid.rows.pixels * grid.columns.pixels
    finished = grid.rows.tile * grid.columns.tile * vae.downsampling**2
    planes = 0 if whole else 2 * 4 * vae.latent_channels * grid.shape[0] * grid.shape[1]
    numbers = {np.dtype(np.uint16), dtype} if adain else {dtype}
    held = pixels * 3 * sum(number.itemsize for number in numbers) + planes
    return held + BYTES_PER_FINISHED_PIXEL * finished


def free_host_bytes(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS) -> int | None:
    """Give what the system, or the container's limit, leaves; None where neither is told."""
    told = [free for free in (_available(meminfo), _left_v2(cgroups), _left_v1(cgroups / "memory")) if free is not None]
    return min(told, default=None)


def free_device_bytes() -> int | None:
    """Give what the accelerator has left, by its own figures; None on a CPU, or where it has none."""
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def _available(meminfo: Path) -> int | None:
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def _left_v2(folder: Path) -> int | None:
    return _left(folder / "memory.max", folder / "memory.current", folder / "memory.stat", "inactive_file")


def _left_v1(folder: Path) -> int | None:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    limit, used, stat = (folder / name for name in names)
    return _left(limit, used, stat, "total_inactive_file")


def _left(limit: Path, used: Path, stat: Path, cache: str) -> int | None:
    """Give the limit less what is used, of which the system gives up the cache of files when asked for memory."""
    if not (limit.is_file() and used.is_file()) or limit.read_text().strip() == "max":
        return None
    fields = dict(line.split() for line in stat.read_text().splitlines()) if stat.is_file() else {}
    return int(limit.read_text()) - int(used.read_text()) + int(fields.get(cache, 0))
