"""How much memory a picture takes, so that a batch is told before the system ends it."""

from pathlib import Path

import jax
import jax.numpy as jnp

from tvt_jax.models.vae import AutoencoderKLConfig

# Live at once in the decoder at full resolution, in maps of its widest level there; from XLA's memory analysis of
# decoders of 16 and 128 channels (6.9 and 6.7).
MAPS_ALIVE = 7
# The picture itself, in float32 several times over, and what XLA's CPU runtime takes; measured at 1 and 4 megapixels.
BYTES_PER_PIXEL = 170


def restore_bytes(config: AutoencoderKLConfig, dtype: jnp.dtype, pixels: int, at_once: int) -> int:
    """Peak memory of restoring `pixels` of which the networks see `at_once`; the decoder at full resolution decides."""
    return MAPS_ALIVE * config.block_out_channels[0] * dtype.itemsize * at_once + BYTES_PER_PIXEL * pixels


def check_memory(needed: int) -> None:
    """Raise MemoryError if `needed` bytes aren't free.

    Accelerators say so themselves; on a CPU the system would end the program without a word, so Linux is asked before.
    """
    free = _free_bytes()
    if jax.default_backend() == "cpu" and free is not None and needed > free:
        raise MemoryError(
            f"needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} are free: work in tiles (--tile 96)"
        )


def _free_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024
