"""One picture through the networks, tile by tile, with the group norms of the whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from tvt_jax.diffusion import OneStep
from tvt_jax.inference import networks
from tvt_jax.inference.networks import VAE, Latents, Text, UNet
from tvt_jax.inference.statistics import Norms, Statistics, corrected, correction, no_correction, pool
from tvt_jax.inference.tiling import Grid, Tile, relative, spread
from tvt_jax.inference.windows import Source

# Tiles that run together: enough to stand for a picture until all its tiles, or a good number, have been seen.
BATCH = 4
# How often the statistics of many tiles correct those of a batch, and of how many tiles at most.
PASSES = 3
SURVEYED = 32

Plane = Float[np.ndarray, "h w c"]
Result = Float[np.ndarray, "h2 w2 c"]
# Batches of tiles that are done, and how many there are.
Report = Callable[[int, int], None]
Decoded = tuple[Tile, Float[np.ndarray, "h w 3"]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A network that runs over the tiles of a picture.

    Attributes:
        program: applies it to a batch.
        read: gives a tile's inputs.
    """

    program: Callable[..., tuple[Array, Statistics]]
    read: Callable[[Tile], tuple[np.ndarray, ...]]


class Restoration:
    """A picture's way through encoder, UNet and decoder.

    With one batch of tiles or less the norms go by what they see together. With more, a batch of tiles stands for the
    picture at first. Then the moments of all tiles are compared with those of this batch, and what the norms of the
    batch see is corrected by the ratio: this converges, where giving all norms what they last saw does not.
    """

    def __init__(
        self,
        vae: VAE,
        unet: UNet,
        grid: Grid,
        *,
        step: OneStep,
        sample: bool,
        report: Report,
        passes: int = PASSES,
    ) -> None:
        self._vae, self._unet, self._grid = vae, unet, grid
        self._step = step
        self._sample = sample
        self._report, self._done = report, 0
        self._passes = passes
        surveys = passes * len(self._surveyed()) if len(grid.tiles) > BATCH else 0
        self._batches = 3 * (surveys + len([*grid.batches(BATCH)]))

    def run(self, source: Source, text: Text | None) -> Iterator[Decoded]:
        """Restore the picture; give each tile, decoded, and not clipped to [-1, 1]."""
        encode = partial(networks.encode, self._vae.network, self._vae.params)
        latents = self._gather(Stage(program=encode, read=partial(self._read_pixels, source)), self._cut)

        def restore(z: Latents, norms: Norms) -> tuple[Array, Statistics]:
            embedding = self._unet.text(text, BATCH)
            return networks.restore(self._unet.network, self._step, self._unet.params, z, embedding, norms)

        clean = self._gather(Stage(program=restore, read=self._reader(latents)), self._blend)
        decode = partial(networks.decode, self._vae.network, self._vae.params)
        yield from self._over_tiles(Stage(program=decode, read=self._reader(clean)))

    def _gather(self, stage: Stage, add: Callable[[Plane, Tile, Result], None]) -> Plane:
        plane = np.zeros((*self._grid.shape, self._vae.config.latent_channels), np.float32)
        for tile, result in self._over_tiles(stage):
            add(plane, tile, result)
        return plane

    def _over_tiles(self, stage: Stage) -> Iterator[tuple[Tile, np.ndarray]]:
        told, given = self._statistics(stage)
        for batch in self._grid.batches(BATCH):
            results, _, _ = self._apply(stage, batch, told, given)
            self._count_batch()
            # Of a short batch, what filled it up is left out.
            yield from zip(batch, np.asarray(results), strict=False)

    def _statistics(self, stage: Stage) -> tuple[Statistics, bool]:
        """Give what the norms go by, and whether these are moments or corrections."""
        tiles = self._grid.tiles
        sample = spread(tiles, BATCH)
        told = self._no_correction(stage, sample)
        if len(tiles) <= BATCH:
            return told, False
        moments = self._moments(stage, sample, told)
        for _ in range(self._passes):
            seen = [self._survey(stage, batch, moments) for batch in self._surveyed()]
            told = correction(of=pool(seen[:1]), towards=pool(seen))
            moments = self._moments(stage, sample, told)
        return moments, True

    def _surveyed(self) -> list[list[Tile]]:
        """Give the batches that the statistics are corrected by, first the one that stands for the picture."""
        tiles = self._grid.tiles
        surveyed = list(dict.fromkeys([*spread(tiles, BATCH), *spread(tiles, SURVEYED)]))
        return [surveyed[i : i + BATCH] for i in range(0, len(surveyed), BATCH)]

    def _survey(
        self, stage: Stage, batch: list[Tile], moments: Statistics
    ) -> tuple[Statistics, Float[np.ndarray, "b 4"]]:
        _, seen, boxes = self._apply(stage, batch, moments, True)
        self._count_batch()
        return seen, boxes

    def _count_batch(self) -> None:
        """Report one more batch of the three networks' as done."""
        self._done += 1
        self._report(self._done, self._batches)

    def _moments(self, stage: Stage, sample: list[Tile], told: Statistics) -> Statistics:
        """Give the corrected moments of a batch of tiles that go by them."""
        own = pool([self._apply(stage, sample, told, False)[1:]])
        return {name: corrected(own[name], told[name]) for name in own}

    def _no_correction(self, stage: Stage, sample: list[Tile]) -> Statistics:
        inputs, boxes = self._inputs(stage, sample)
        return no_correction(jax.eval_shape(lambda *inputs: stage.program(*inputs, Norms(boxes))[1], *inputs))

    def _apply(
        self, stage: Stage, batch: list[Tile], told: Statistics, given: bool
    ) -> tuple[Array, Statistics, Float[np.ndarray, "b 4"]]:
        inputs, boxes = self._inputs(stage, batch)
        results, seen = stage.program(*inputs, Norms(boxes, told, np.asarray(given)))
        return results, jax.tree.map(np.asarray, seen), boxes

    def _inputs(self, stage: Stage, batch: list[Tile]) -> tuple[list[np.ndarray], Float[np.ndarray, "b 4"]]:
        """Give the batch's inputs and boxes; a short one is filled up by its first tile with boxes of nothing."""
        missing = BATCH - len(batch)
        parts = [stage.read(tile) for tile in batch]
        boxes = np.array([self._grid.box(tile) for tile in batch] + [(0.0,) * 4] * missing, np.float32)
        return [np.stack([*part, *part[:1] * missing]) for part in zip(*parts, strict=True)], boxes

    def _read_pixels(self, source: Source, tile: Tile) -> tuple[np.ndarray, ...]:
        top, left = self._grid.first_pixel(tile)
        height, width = (side * self._vae.config.downsampling for side in self._grid.tile_shape)
        return source.window(top, left, height, width), self._noise(tile)

    def _noise(self, tile: Tile) -> Plane:
        channels = self._vae.config.latent_channels
        if not self._sample:
            return np.zeros((*self._grid.tile_shape, channels), np.float32)
        return noise(self._grid.window(tile), channels)

    def _reader(self, plane: Plane) -> Callable[[Tile], tuple[np.ndarray, ...]]:
        return lambda tile: (plane[self._grid.window(tile)],)

    def _cut(self, plane: Plane, tile: Tile, result: Result) -> None:
        part, window = self._grid.part(tile), self._grid.window(tile)
        plane[part] = result[tuple(relative(*pair) for pair in zip(part, (w.start for w in window), strict=True))]

    def _blend(self, plane: Plane, tile: Tile, result: Result) -> None:
        plane[self._grid.window(tile)] += result * self._grid.weights(tile)


def noise(window: tuple[slice, slice], channels: int) -> Plane:
    """Draw unit Gaussian noise in a window of a padded picture's latents, the same wherever the window lies."""
    rows, columns = window
    return np.stack([_row_of_noise(row, columns.stop, channels)[columns] for row in range(rows.start, rows.stop)])


def _row_of_noise(row: int, width: int, channels: int) -> Any:
    return np.random.default_rng([0, row]).standard_normal((width, channels), np.float32)
