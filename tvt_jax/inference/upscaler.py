"""A model folder at work: enlarge, restore in one step, give the colours back."""

import math
import os
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8
from PIL import Image
from tqdm import tqdm

from tvt_jax import compilation_cache
from tvt_jax.colour import COLOR_FIXES, ColorFix
from tvt_jax.diffusion import restore_latent
from tvt_jax.hub import fetch
from tvt_jax.inference.images import resize, spread_color, to_grey
from tvt_jax.inference.memory import check_memory, restore_bytes
from tvt_jax.inference.networks import VAE, Images, Text, UNet
from tvt_jax.inference.prompt import with_prompt
from tvt_jax.inference.tiling import blend_tiles
from tvt_jax.model_folder import ModelFolder, read_model
from tvt_jax.pixels import from_uint8, to_uint8

PRETRAINED = Path(__file__).parent.parent / "pretrained" / "tiny"
LARGEST_SCALE = 8
# A strip is not enlarged first to more than this many times the smallest side: its result would fill the memory.
LONGEST_STRIP = 4
SMALLEST_TILE = 32
# A VAE's tile in tiles of the UNet: four times as large, its group norms see as much of the image as memory allows.
VAE_TILES = 4

Scale = float | int
Map = Float[Array | np.ndarray, "b h w c"]
Pixels = UInt8[np.ndarray, "h w c"]


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    prompt: str | None = None,
    color_fix: ColorFix | None = None,
    tile: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device_rows: int = 1,
    progress: bool = False,
) -> "Upscaler":
    """Read a model folder, also hf://OWNER/NAME (None: the one in the package); the rest is as in `Upscaler`.

    With a text encoder in the folder, `prompt` takes the place of the model's own.

    Compiled programs are kept on disk from run to run, in `$XDG_CACHE_HOME/tvt_jax` or `~/.cache/tvt_jax`, unless jax
    was told of another place.
    """
    compilation_cache.enable()
    path = fetch(PRETRAINED if model is None else model)
    folder = read_model(path)
    if prompt is not None:
        folder = with_prompt(folder, path, prompt)
    return Upscaler(folder, color_fix=color_fix, tile=tile, dtype=dtype, device_rows=device_rows, progress=progress)


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
        color_fix: ColorFix | None = None,
        tile: int | None = None,
        dtype: Literal["float32", "bfloat16"] = "float32",
        device_rows: int = 1,
        progress: bool = False,
    ) -> None:
        """Put the weights on the device.

        Args:
            folder: the model.
            color_fix: how the input's colours are given back; None is what the card says.
            tile: run the UNet over tiles of this many latent pixels, and the VAE over tiles of four times as many,
                overlapping by a third; None is the whole image.
            dtype: what the networks compute in, and their weights are held in.
            device_rows: split the image's rows over this many devices.
            progress: show a progress bar over the tiles of an image.

        Raises:
            ValueError: the tile is too small or asked for together with device_rows, there are fewer devices than
                device_rows, or the UNet has no prompt embedding.
        """
        if tile is not None and tile < SMALLEST_TILE:
            raise ValueError(f"tile={tile} is too small, use at least {SMALLEST_TILE} latent pixels (96 is usual)")
        if tile is not None and device_rows > 1:
            raise ValueError("a picture is either worked on in tiles or split over devices: drop tile or device_rows")
        if not 1 <= device_rows <= jax.device_count():
            raise ValueError(f"device_rows={device_rows}, but jax sees {jax.device_count()} device(s)")
        mesh = jax.make_mesh((device_rows,), ("rows",), (AxisType.Auto,), devices=jax.devices()[:device_rows])
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._split_rows = NamedSharding(mesh, PartitionSpec(None, "rows"))
        self.card = folder.card
        self.vae = VAE(folder, jnp.dtype(dtype), everywhere)
        self.unet = None if folder.unet is None else UNet(folder, jnp.dtype(dtype), everywhere)
        self._color_fix = COLOR_FIXES[color_fix or folder.card.color_fix]
        self._tile = tile
        self._progress = progress
        self._dtype = jnp.dtype(dtype)

    def upscale(self, image: Pixels | UInt8[np.ndarray, "h w"], scale: Scale | None = None) -> np.ndarray:
        """Enlarge a picture to (round(h * scale), round(w * scale)), with the channels it has.

        Args:
            image: uint8 of any size; grey (h w, or h w 1), grey and alpha, RGB or RGBA.
            scale: 1 to 8, None is the card's. The network always works at the card's scale, the one it was trained
                for; for another one its result is resized (Lanczos).

        Raises:
            ValueError: the scale is out of range or the model has no UNet.
        """
        scale = check_scale(self.card.scale if scale is None else scale)
        if image.ndim == 2:
            return self.upscale(image[..., None], scale)[..., 0]
        if image.shape[-1] in (2, 4):
            color, alpha = image[..., :-1], image[..., -1]
            color = self.upscale(spread_color(color, alpha), scale)
            return np.dstack([color, resize(alpha, color.shape[:2], Image.Resampling.BICUBIC)])
        if image.shape[-1] == 1:
            return to_grey(self.upscale(np.repeat(image, 3, axis=-1), scale))[..., None]
        result = self._enlarge(self._at_working_size(image))
        size = self.result_size(image.shape[0], image.shape[1], scale)
        return result if size == result.shape[:2] else resize(result, size, Image.Resampling.LANCZOS)

    def result_size(self, height: int, width: int, scale: Scale | None = None) -> tuple[int, int]:
        """Height and width that `upscale` enlarges a picture to."""
        scale = check_scale(self.card.scale if scale is None else scale)
        return round(height * scale), round(width * scale)

    def restore(self, x: Images, text_embedding: Text | None = None) -> Float[np.ndarray, "b h w 3"]:
        """Restore images in [-1, 1] of any size that have been enlarged already; the result is clipped to [-1, 1].

        They are padded by reflection, on the right and below, to one of a few sizes, so that few programs are compiled.

        Args:
            x: the images.
            text_embedding: an encoded prompt an image; None is the folder's own prompt.

        Raises:
            MemoryError: it would not fit, as far as that can be told.
            ValueError: the model has no UNet.
        """
        if self.unet is None:
            raise ValueError("this model folder has no UNet: its VAE encodes and decodes, but restores nothing")
        height, width = x.shape[1:3]
        shape = self.padded_size(height, width)
        padding = [(0, 0), (0, shape[0] - height), (0, shape[1] - width), (0, 0)]
        padded = np.pad(np.asarray(x, np.float32), padding, mode="reflect")
        unit = self.vae.config.downsampling
        predict = partial(self._predict_noise, text_embedding=text_embedding)
        self._check_memory(padded.shape)
        z = self._tiled("encode", self._encode, padded, VAE_TILES, unit, Fraction(1, unit))
        clean = restore_latent(jnp.asarray(z), predict, self.card.time_step)
        restored = self._tiled("decode", self.vae.to_image, clean, VAE_TILES, 1, unit)
        return np.asarray(restored)[:, :height, :width].clip(-1, 1)

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Give the size that images of `height` x `width` pixels are padded to before the networks see them."""
        levels = len(self.unet.config.block_out_channels) if self.unet else 1
        multiple = self.vae.config.downsampling * 2 ** (levels - 1)
        rows = self._split_rows.mesh.size
        return _bucket(height, multiple * rows), _bucket(width, multiple)

    def _at_working_size(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
        """Give the picture, enlarged if its result would have a shorter side than the card's smallest."""
        short, long = sorted(image.shape[:2])
        smallest = self.card.smallest_side / self.card.scale
        factor = min(smallest / short, LONGEST_STRIP * smallest / long)
        if factor <= 1:
            return image
        return resize(image, (int(image.shape[0] * factor), int(image.shape[1] * factor)), Image.Resampling.BICUBIC)

    def _enlarge(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        size = image.shape[0] * self.card.scale, image.shape[1] * self.card.scale
        enlarged = from_uint8(resize(image, size, Image.Resampling.BICUBIC))
        restored = self._color_fix(self.restore(enlarged[None])[0], enlarged)
        return to_uint8(restored)

    def _tiled(
        self, name: str, function: Callable[[Map], Array], image: Map, tiles: int, unit: int, factor: Fraction | int
    ) -> Float[Array | np.ndarray, "b h2 w2 d"]:
        """Apply `function` to the whole image or to tiles of `tiles` times the tile; `unit` pixels are one latent's."""
        tile = None if self._tile is None else tiles * self._tile
        if tile is None or max(image.shape[1:3]) <= tile * unit:
            return function(image)
        progress = partial(tqdm, desc=name, unit="tile", leave=False, disable=None if self._progress else True)
        return blend_tiles(function, np.asarray(image), tile * unit, tile // 3 * unit, factor, progress)

    def _encode(self, x: Map) -> Array:
        rng = jax.random.key(0) if self.card.posterior == "sample" else None
        return self.vae.to_latent(jax.device_put(x, self._split_rows), rng)

    def _predict_noise(self, z: Map, timesteps: Array, text_embedding: Text | None) -> Array:
        unet = self.unet
        assert unet is not None  # for the type checker: `restore` has asked
        return jnp.asarray(self._tiled("restore", lambda tile: unet(tile, timesteps, text_embedding), z, 1, 1, 1))

    def _check_memory(self, shape: tuple[int, ...]) -> None:
        side = math.inf if self._tile is None else VAE_TILES * self._tile * self.vae.config.downsampling
        at_once = shape[0] * min(shape[1], side) * min(shape[2], side)
        check_memory(restore_bytes(self.vae.config, self._dtype, math.prod(shape[:3]), int(at_once)))


def check_scale(scale: Scale) -> Scale:
    """`scale`, or ValueError if it is out of range."""
    if not 1 <= scale <= LARGEST_SCALE:
        raise ValueError(f"scale={scale} is out of range, use 1 to {LARGEST_SCALE} (fractions too)")
    return scale


def _bucket(length: int, multiple: int) -> int:
    """Give the next multiple of `multiple` and 64, or of a sixteenth to a thirty-second of a long `length`."""
    step = math.lcm(multiple, max(64, 2 ** (length.bit_length() - 5)))
    return math.ceil(length / step) * step
