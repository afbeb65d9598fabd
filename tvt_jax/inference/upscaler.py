"""A model folder at work: enlarge, restore in one step, give the colours back."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt
from PIL import Image
from tqdm import tqdm

from tvt_jax import compilation_cache
from tvt_jax.colour import COLOR_FIXES, ColorFix
from tvt_jax.hub import fetch, find
from tvt_jax.inference.adapters import TRAINED, Strengths, require_adapters
from tvt_jax.inference.channels import resize, spread_color, to_8_bits, to_grey
from tvt_jax.inference.check import Scale, check_choice, check_floats, check_scale, to_pixels
from tvt_jax.inference.finish import join, paint
from tvt_jax.inference.kept import Kept
from tvt_jax.inference.networks import VAE, Text, UNet, run_whole
from tvt_jax.inference.plan import SMALLEST_TILE, Plan, Planner
from tvt_jax.inference.prompt import Describe, describer, require_text_encoder, with_prompt
from tvt_jax.inference.restoration import Decoded, Report, Restoration, noise
from tvt_jax.inference.statistics import Norms
from tvt_jax.inference.strength import Strength, blend, check_strength
from tvt_jax.inference.tiling import Grid, Tile
from tvt_jax.inference.windows import Enlarged, Given, Source
from tvt_jax.model_folder import ModelFolder, read_model
from tvt_jax.tagger_folder import require_tagger

PRETRAINED = Path(__file__).parent.parent / "pretrained" / "tiny"
DTYPES = ("float32", "bfloat16")
# A strip is not enlarged first to more than this many times the smallest side: its result would fill the memory.
LONGEST_STRIP = 4

_RUN_WHOLE = Kept(run_whole, static=2)

Use = Callable[[Iterable[Decoded], Grid], np.ndarray]


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    prompt: str | None = None,
    tagger: str | os.PathLike[str] | None = None,
    strength_pixel: float = 1.0,
    strength_semantic: float = 1.0,
    color_fix: str | None = None,
    tile: int | None = None,
    dtype: str = "float32",
    device_rows: int = 1,
    progress: bool = False,
) -> "Upscaler":
    """Read a model folder, hf://OWNER/NAME or gs://BUCKET/NAME (None: that in the package); the rest as in `Upscaler`.

    With a text encoder in the folder, `prompt` takes the place of the model's own, and the tags that a tagger folder
    finds in each picture go before it. The strengths are `inference.adapters.Strengths`, for PiSA-SR.

    Compiled programs are kept on disk from run to run, in `$XDG_CACHE_HOME/tvt_jax` or `~/.cache/tvt_jax`, unless jax
    was told of another place.
    """
    compilation_cache.enable()
    path = find(PRETRAINED if model is None else model)
    strengths = Strengths(pixel=strength_pixel, semantic=strength_semantic)
    if strengths != TRAINED:
        require_adapters(path)
    if tagger is not None:
        require_tagger(tagger := fetch(tagger))
        require_text_encoder(path)
    folder = read_model(path, lora_apart=strengths != TRAINED)
    describe = None
    if tagger is not None:
        describe = describer(folder, path, tagger, prompt)
    elif prompt is not None:
        folder = with_prompt(folder, path, prompt)
    options: dict[str, Any] = {"color_fix": color_fix, "tile": tile, "dtype": dtype, "device_rows": device_rows}
    return Upscaler(folder, **options, strengths=strengths, describe=describe, progress=progress)


class Upscaler:
    """Enlarges and restores pictures with the networks of a model folder.

    Attributes:
        card: the model's card: the scale it was trained for, its time step, its default prompt ...
        vae: the VAE: `encode` to a posterior (mean, log-variance), `decode`.
        unet: the UNet, called as (z, t, text_embedding); None in a folder that has a VAE alone.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        color_fix: str | None = None,
        tile: int | None = None,
        dtype: str = "float32",
        device_rows: int = 1,
        strengths: Strengths = TRAINED,
        describe: Describe | None = None,
        progress: bool = False,
    ) -> None:
        """Put the weights on the device.

        Args:
            folder: the model.
            color_fix: how the input's colours are given back, `adain`, `wavelet` or `none`; None is what the card says.
            tile: side of a tile in latent pixels; None is the largest that fits what memory is free.
            dtype: what the networks compute in, and their weights are held in: `float32` or `bfloat16`.
            device_rows: split the image's rows over this many devices, which then hold it whole.
            strengths: of the two adapters of a folder that was read with its LoRA apart.
            describe: gives `upscale` each picture's prompt; None is the model's own for all.
            progress: show a progress bar over the tiles of an image.

        Raises:
            ValueError: an option isn't known, the tile is too small or asked for together with device_rows, there are
                fewer devices than device_rows, or the UNet has no prompt embedding.
        """
        check_choice("dtype", dtype, DTYPES)
        if color_fix is not None:
            check_choice("color_fix", color_fix, tuple(COLOR_FIXES))
        if tile is not None and tile < SMALLEST_TILE:
            raise ValueError(f"tile={tile} is too small, use at least {SMALLEST_TILE} latent pixels, or none")
        if tile is not None and device_rows > 1:
            raise ValueError("a picture is either worked on in tiles or split over devices: drop tile or device_rows")
        if not 1 <= device_rows <= jax.device_count():
            raise ValueError(f"device_rows={device_rows}, but jax sees {jax.device_count()} device(s)")
        mesh = jax.make_mesh((device_rows,), ("rows",), (AxisType.Auto,), devices=jax.devices()[:device_rows])
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._split_rows = NamedSharding(mesh, PartitionSpec(None, "rows"))
        self.card = folder.card
        self.vae = VAE(folder, jnp.dtype(dtype), everywhere)
        self.unet = None if folder.unet is None else UNet(folder, jnp.dtype(dtype), everywhere, strengths)
        self._color_fix = cast(ColorFix, color_fix or folder.card.color_fix)
        self._describe = describe
        self._progress = progress
        self._planner = None
        if self.unet is not None:
            adain = self._color_fix == "adain"
            self._planner = Planner(self.vae.config, self.unet.config, jnp.dtype(dtype), adain, tile, device_rows)

    def upscale(
        self,
        image: np.ndarray | Image.Image,
        scale: Scale | None = None,
        *,
        strength: Strength = 1,
        color_fix: ColorFix | None = None,
        report: Report | None = None,
        told: Callable[[str], object] | None = None,
    ) -> np.ndarray:
        """Enlarge a picture to (round(h * scale), round(w * scale)), with the channels it has.

        Args:
            image: a PIL image, or uint8 or uint16 of any size; grey (h w, or h w 1), grey and alpha, RGB or RGBA. The
                result has the same depth.
            scale: 1 to 8, None is the card's. The network always works at the card's scale, the one it was trained
                for; for another one its result is resized (Lanczos).
            strength: from the enlarged input (0) to all of the restoration (1).
            color_fix: how the input's colours are given back; None is the upscaler's own way.
            report: hears of a picture in tiles how many batches are done, and of how many; what it raises ends the
                work. None is a progress bar, where one was asked for.
            told: hears the prompt that the picture gets of a tagger.

        Raises:
            MemoryError: it would not fit, as far as that can be told.
            ValueError: the scale or the strength is out of range, this is no picture, or the model has no UNet.
        """
        check_strength(strength)
        scale = check_scale(self.card.scale if scale is None else scale)
        pixels = to_pixels(image)
        image = pixels[..., None] if pixels.ndim == 2 else pixels
        fix = self._color_fix if color_fix is None else color_fix
        with self._reporting(report) as hears:
            restored = _by_channels(image, partial(self._upscale_rgb, scale=scale, fix=fix, report=hears, told=told))
        result = blend(restored, image, strength)
        return result[..., 0] if pixels.ndim == 2 else result

    def _upscale_rgb(
        self,
        image: UInt[np.ndarray, "h w 3"],
        scale: Scale,
        fix: ColorFix,
        report: Report,
        told: Callable[[str], object] | None,
    ) -> UInt[np.ndarray, "H W 3"]:
        # The networks see 8 bits, which they were trained on; the colours that are given back have all.
        small, own = (self._at_working_size(pixels) for pixels in (to_8_bits(image), image))
        seen, colors = (Enlarged(pixels, self.card.scale) for pixels in (small, own))
        prompt, text = (None, None) if self._describe is None else self._describe(small, self.card.scale)
        if prompt is not None and told is not None:
            told(prompt)
        use = partial(paint, source=colors, fix=fix, dtype=image.dtype)
        result = self._work(seen, text, use, image.dtype, report)
        size = self.result_size(image.shape[0], image.shape[1], scale)
        return result if size == result.shape[:2] else resize(result, size, Image.Resampling.LANCZOS)

    def result_size(self, height: int, width: int, scale: Scale | None = None) -> tuple[int, int]:
        """Height and width that `upscale` enlarges a picture to."""
        scale = check_scale(self.card.scale if scale is None else scale)
        return round(height * scale), round(width * scale)

    def check_fits(self, height: int, width: int) -> None:
        """Raise MemoryError if a picture of `height` x `width` pixels of 8 bits can't be upscaled in free memory."""
        if self._planner is not None:
            height, width = self._working_size(height, width)
            self._planner.plan(height * self.card.scale, width * self.card.scale)

    def restore(self, x: Array | np.ndarray, text_embedding: Text | None = None) -> Float[np.ndarray, "b h w 3"]:
        """Restore images in [-1, 1] of any size that have been enlarged already; the result is clipped to [-1, 1].

        Args:
            x: floats, b h w 3.
            text_embedding: an encoded prompt an image; None is the folder's own prompt.

        Raises:
            MemoryError: it would not fit, as far as that can be told.
            ValueError: the model has no UNet, or `x` isn't such images.
        """
        images = check_floats(np.asarray(x))
        texts = (
            [None] * len(images) if text_embedding is None else [text_embedding[i : i + 1] for i in range(len(images))]
        )
        return np.stack([self._restore(image, text) for image, text in zip(images, texts, strict=True)])

    def _restore(self, image: np.ndarray, text: Text | None) -> Float[np.ndarray, "h w 3"]:
        use = partial(join, size=image.shape[:2])
        with self._reporting(None) as told:
            return self._work(Given(image), text, use, np.dtype(np.float32), told)

    def _work(self, source: Source, text: Text | None, use: Use, dtype: np.dtype, report: Report) -> np.ndarray:
        """Let `use` make a result of `dtype` from the decoded tiles; where a device's memory ends, of half the size."""
        if self._planner is None:
            raise ValueError("this model folder has no UNet: its VAE encodes and decodes, but restores nothing")
        while True:
            plan = self._planner.plan(*source.size, dtype)
            try:
                return use(self._decoded(plan, source, text, report), plan.grid)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or not self._planner.halve():
                    raise
                tile = self._planner.largest
                tqdm.write(f"the device's memory ran out: going on with tiles of {tile} latent pixels", file=sys.stderr)

    def _decoded(self, plan: Plan, source: Source, text: Text | None, report: Report) -> Iterator[Decoded]:
        if plan.whole:
            return iter([self._decode_whole(plan.grid, source, text)])
        assert self.unet is not None  # for the type checker: there is a plan
        sample = self.card.posterior == "sample"
        restoration = Restoration(self.vae, self.unet, plan.grid, step=self.card.step, sample=sample, report=report)
        return restoration.run(source, text)

    def _decode_whole(self, grid: Grid, source: Source, text: Text | None) -> Decoded:
        unet, tile, factor = self.unet, Tile(0, 0), self.vae.config.downsampling
        assert unet is not None
        (height, width), channels = grid.tile_shape, self.vae.config.latent_channels
        x = source.window(*grid.first_pixel(tile), height * factor, width * factor)
        latent_noise = np.zeros((height, width, channels), np.float32)
        if self.card.posterior == "sample":
            latent_noise = noise(grid.window(tile), channels)
        x, latent_noise = jax.device_put((x[None], latent_noise[None]), self._split_rows)
        models, params = (self.vae.network, unet.network), (self.vae.params, unet.params)
        norms = Norms(np.array([grid.box(tile)], np.float32))
        result = _RUN_WHOLE(models, self.card.step, params, x, latent_noise, unet.text(text, 1), norms)
        return tile, np.asarray(result)[0]

    @contextmanager
    def _reporting(self, report: Report | None) -> Iterator[Report]:
        """Give whom to report to: `report`, or a progress bar."""
        if report is not None:
            yield report
            return
        with tqdm(unit="batch", leave=False, delay=0.1, disable=None if self._progress else True) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield show

    def _at_working_size(self, image: UInt[np.ndarray, "h w 3"]) -> UInt[np.ndarray, "h2 w2 3"]:
        """Give the picture, enlarged if its result would have a shorter side than the card's smallest."""
        size = self._working_size(*image.shape[:2])
        return image if size == image.shape[:2] else resize(image, size, Image.Resampling.BICUBIC)

    def _working_size(self, height: int, width: int) -> tuple[int, int]:
        short, long = sorted((height, width))
        smallest = self.card.smallest_side / self.card.scale
        factor = max(min(smallest / short, LONGEST_STRIP * smallest / long), 1)
        return int(height * factor), int(width * factor)


def _by_channels(
    image: UInt[np.ndarray, "h w c"], upscale_rgb: Callable[[UInt[np.ndarray, "h w 3"]], np.ndarray]
) -> UInt[np.ndarray, "H W c"]:
    """Upscale a picture of any kind by what upscales RGB."""
    if image.shape[-1] in (2, 4):
        color, alpha = image[..., :-1], image[..., -1]
        color = _by_channels(spread_color(color, alpha), upscale_rgb)
        return np.dstack([color, resize(alpha, color.shape[:2], Image.Resampling.BICUBIC)])
    if image.shape[-1] == 1:
        return to_grey(upscale_rgb(np.repeat(image, 3, axis=-1)))[..., None]
    return upscale_rgb(image)
