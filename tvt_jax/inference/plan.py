"""Which shapes a picture is worked on in: whole, in one of a few sizes, or in tiles that fit the memory."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from tvt_jax.inference.memory import (
    BASE,
    device_bytes,
    finest_attention,
    free_device_bytes,
    free_host_bytes,
    host_bytes,
)
from tvt_jax.inference.restoration import BATCH
from tvt_jax.inference.tiling import Axis, Grid
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

# Reflection on each side of a picture, in latent pixels: what is off at the border of what the networks see is cut off.
PADDING = 16
# What the smallest program for whole pictures holds, in latent pixels; the next hold 2 and 4 times as much a side.
SMALLEST_WHOLE = 128
# Tiles that the program chooses from, and the least that it takes: with less, blends show.
TILES = (288, 160, 96)
SMALLEST_TILE = min(TILES)
# What neighbouring tiles share at least, in latent pixels.
OVERLAP = 48
# Most tokens of a tile that attention is asked to compare: its cost grows with their square.
MOST_TOKENS = 160**2


@dataclass(frozen=True)
class Plan:
    """How one picture is worked on.

    Attributes:
        grid: its tiles.
        whole: whether there is but one, in one program.
    """

    grid: Grid
    whole: bool


class Planner:
    """Chooses shapes for pictures of a model.

    Attributes:
        largest: the largest tile to choose from.
    """

    def __init__(
        self,
        vae: AutoencoderKLConfig,
        unet: UNet2DConditionConfig,
        dtype: jnp.dtype,
        adain: bool,
        tile: int | None,
        device_rows: int,
    ) -> None:
        self._vae, self._unet, self._dtype, self._adain = vae, unet, dtype, adain
        self._rows = device_rows
        windows = [window << level for level, window in enumerate(unet.windows) if window]
        # Coarser grids and windows of attention lie alike in every tile.
        self._unit = math.lcm(2 ** (len(unit_levels(unet)) - 1), *windows)
        tiles = [tile for tile in TILES if (tile >> finest_attention(unet)) ** 2 <= MOST_TOKENS]
        self._tiles = [self._up(tile) for tile in (tiles if tile is None else [tile])]

    @property
    def largest(self) -> int:
        """The largest tile to choose from."""
        return self._tiles[0]

    def halve(self) -> bool:
        """Choose from tiles of half the largest at most from now on; False if there are none."""
        half = self._up(max(self.largest // 2, SMALLEST_TILE))
        smaller = half < self.largest
        self._tiles = [half, *(tile for tile in self._tiles if tile < half)]
        return smaller

    def plan(self, height: int, width: int, dtype: DTypeLike = np.uint8) -> Plan:
        """Plan a picture in the largest tiles that fit.

        Args:
            height: of the result, in pixels.
            width: of the result, in pixels.
            dtype: of the result.

        Raises:
            MemoryError: not even the smallest do.
        """
        if self._rows > 1:
            return self._whole(height, width)
        plans = [self._plan(height, width, tile) for tile in self._tiles]
        for plan in plans:
            if self._missing(plan, np.dtype(dtype)) is None:
                return plan
        raise MemoryError(self._missing(plans[-1], np.dtype(dtype)))

    def _plan(self, height: int, width: int, tile: int) -> Plan:
        # As large as a batch of tiles.
        limit = 2 * tile - 2 * PADDING
        needed = math.ceil(max(height, width) / self._vae.downsampling) + 2 * PADDING
        if needed > limit:
            return Plan(self._grid(height, width, tile, tile), whole=False)
        side = self._up(min(limit, _side(needed)))
        return Plan(self._grid(height, width, side, side), whole=True)

    def _whole(self, height: int, width: int) -> Plan:
        """Up to the largest of the sizes for one device the same as there; then each side by itself."""
        rows, columns = (math.ceil(side / self._vae.downsampling) + 2 * PADDING for side in (height, width))
        if max(rows, columns) <= 2 * max(TILES) - 2 * PADDING:
            rows = columns = _side(max(rows, columns))
        unit = self._unit * self._rows
        return Plan(
            self._grid(height, width, math.ceil(_step(rows) / unit) * unit, self._up(_step(columns))), whole=True
        )

    def _grid(self, height: int, width: int, rows: int, columns: int) -> Grid:
        shared = {"factor": self._vae.downsampling, "overlap": self._up(OVERLAP), "unit": self._unit}
        padding = self._up(PADDING)
        sides = ((height, rows), (width, columns))
        return Grid(*(Axis(pixels=n, tile=tile, padding=padding, **shared) for n, tile in sides))

    def estimate(self, plan: Plan) -> int:
        """Peak memory in bytes of a process that works by `plan` on a CPU, with a result of 8 bits."""
        return BASE + self._on_device(plan) + self._on_host(plan, np.dtype(np.uint8))

    def _missing(self, plan: Plan, dtype: np.dtype) -> str | None:
        """Say of a plan that doesn't fit."""
        on_device, on_host = self._on_device(plan), self._on_host(plan, dtype)
        if jax.default_backend() == "cpu":
            # The process runs already: what it has taken is not free any more.
            needs = [("memory", on_device + on_host, free_host_bytes())]
        else:
            needs = [
                ("device memory", on_device, free_device_bytes()),
                ("memory", on_host, free_host_bytes()),
            ]
        for name, needed, free in needs:
            if free is not None and needed > free:
                return f"needs about {needed / 1e9:.1f} GB of {name} and {free / 1e9:.1f} are free"
        return None

    def _on_device(self, plan: Plan) -> int:
        return device_bytes(self._vae, self._unet, self._dtype, plan.grid, 1 if plan.whole else BATCH)

    def _on_host(self, plan: Plan, dtype: np.dtype) -> int:
        return host_bytes(self._vae, plan.grid, plan.whole, self._adain, dtype)

    def _up(self, length: int) -> int:
        return math.ceil(length / self._unit) * self._unit


def unit_levels(unet: UNet2DConditionConfig) -> tuple[int, ...]:
    """Give the channels of the UNet's levels, each half as large as the one before."""
    return unet.block_out_channels


def _side(needed: int) -> int:
    """Give the smallest side of a program for whole pictures that holds `needed` latent pixels, padding included."""
    doublings = math.ceil(math.log2((needed - 2 * PADDING) / SMALLEST_WHOLE))
    return SMALLEST_WHOLE * 2 ** max(doublings, 0) + 2 * PADDING


def _step(length: int) -> int:
    """Give a length rounded up by at most a sixteenth or 16: few shapes for many sizes."""
    step = max(16, 2 ** (length.bit_length() - 5))
    return math.ceil(length / step) * step
