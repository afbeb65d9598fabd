"""The pipeline of an exported model, in PyTorch and stock diffusers alone.

pipe = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
pipe(Image.open("photo.jpg")).images[0].save("large.png")
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, ImagePipelineOutput, UNet2DConditionModel
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors.torch import load_file

# The first that knows a VAE's middle block without attention.
OLDEST = (0, 30)
if tuple(map(int, diffusers.__version__.split(".")[:2])) < OLDEST:
    raise ImportError(
        f"this model needs diffusers {'.'.join(map(str, OLDEST))} or newer, and {diffusers.__version__} is installed: "
        "it could give the VAE attention of random weights"
    )

PROMPTS = "prompt_embedding.safetensors"
# In latent pixels: reflection about a picture, what neighbouring tiles share at least, and the smallest canvas.
PADDING, OVERLAP, SMALLEST = 16, 48, 128
# A strip is not enlarged first to more than this many times the smallest side.
LONGEST_STRIP = 4

Box = tuple[float, float, float, float]


class TVTPipeline(DiffusionPipeline):
    """Enlarges a photo and restores it in one step of diffusion.

    A picture of up to (2 * tile - 64) latent pixels a side, 1024 pixels with the default tile and a 4x VAE, goes
    through the networks whole, and comes out as by `tvt upscale`. A larger one is cut into tiles. They overlap and
    are blended, but each one's group norms go by that tile alone and not by the whole picture, as `tvt upscale`'s do:
    tiles may differ a little in contrast.

    Args:
        vae, unet, scheduler: the networks and the noise schedule.
        scale: enlargement that the model was trained for.
        smallest_side: pixels of the result's shorter side below which a picture is enlarged first.
        time_step: the one step's time.
        posterior: whether the latent is the posterior's "mean", or a "sample" of it, by noise that is always the same.
        color_fix: how the photo's colours are given back, unless asked otherwise: "adain", "wavelet" or "none".
        prediction: what the UNet gives: the "noise", or the "residual" that is subtracted as it is.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
        scale: int = 4,
        smallest_side: int = 0,
        time_step: int = 1,
        posterior: str = "mean",
        color_fix: str = "adain",
        prediction: str = "noise",
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)
        self.register_to_config(
            scale=scale,
            smallest_side=smallest_side,
            time_step=time_step,
            posterior=posterior,
            color_fix=color_fix,
            prediction=prediction,
        )

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image,
        *,
        color_fix: str | None = None,
        tile: int = 160,
        prompt_embeds: torch.Tensor | None = None,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Enlarge and restore a photo, taken as RGB.

        Args:
            image: the photo.
            color_fix: "adain", "wavelet" or "none"; None is the model's own.
            tile: side of a tile in latent pixels, at least 96.
            prompt_embeds: an encoded prompt (1, tokens, width); None is the model's own.
            output_type: "pil", or "np": floats (1, h, w, 3) in [0, 1], before they are rounded and resized back.

        Raises:
            ValueError: an option isn't known.
        """
        fix = COLOR_FIXES.get(color_fix or self.config.color_fix)
        if fix is None or tile < 2 * OVERLAP or output_type not in ("pil", "np"):
            raise ValueError(f"color_fix={color_fix!r}, tile={tile} or output_type={output_type!r} is not known")
        photo = image.convert("RGB")
        size = self._working_size(*photo.size)
        work = photo if size == photo.size else photo.resize(size, Image.Resampling.BICUBIC)
        large = work.resize((work.width * self.config.scale, work.height * self.config.scale), Image.Resampling.BICUBIC)
        x = np.asarray(large, np.float32) / 127.5 - 1
        text = self._prompt() if prompt_embeds is None else prompt_embeds
        result = fix(self._restore(x, tile, text).clip(-1, 1), x).clip(-1, 1)
        if output_type == "np":
            return ImagePipelineOutput(images=(result[None] + 1) / 2)
        restored = Image.fromarray(np.rint((result + 1) * 127.5).astype(np.uint8))
        wanted = photo.width * self.config.scale, photo.height * self.config.scale
        return ImagePipelineOutput(
            images=[restored if restored.size == wanted else restored.resize(wanted, Image.Resampling.LANCZOS)]
        )

    def _working_size(self, width: int, height: int) -> tuple[int, int]:
        short, long = sorted((width, height))
        smallest = self.config.smallest_side / self.config.scale
        factor = max(min(smallest / short, LONGEST_STRIP * smallest / long), 1)
        return int(width * factor), int(height * factor)

    def _prompt(self) -> torch.Tensor:
        """Read the model's own prompt, which lies beside the networks, here or on the hub."""
        folder = self.config._name_or_path
        if not Path(folder).is_dir():
            folder = snapshot_download(folder, allow_patterns=PROMPTS)
        return load_file(Path(folder) / PROMPTS)["prompt"][None]

    def _restore(self, x: np.ndarray, tile: int, text: torch.Tensor) -> np.ndarray:
        """Blend the restored tiles of a picture (h, w, 3); nearly always there is but one."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        unit = 2 ** (len(self.unet.config.block_out_channels) - 1)
        padding, side = _up(PADDING, unit), _canvas(math.ceil(max(x.shape[:2]) / factor), tile, unit)
        rows, columns = (_starts(math.ceil(n / factor) + 2 * padding, side, unit) for n in x.shape[:2])
        total, weights = np.zeros_like(x), np.zeros((*x.shape[:2], 1), np.float32)
        for corner in self.progress_bar([(row, column) for row in rows for column in columns]):
            begins = [(start - padding) * factor for start in corner]
            inside = [_inside(begin, side * factor, n) for begin, n in zip(begins, x.shape[:2], strict=True)]
            box = tuple(edge / (side * factor) for part in inside for edge in (part.start, part.stop))
            mirrored = [_reflect(begin, side * factor, n) for begin, n in zip(begins, x.shape[:2], strict=True)]
            result = self._restore_tile(x[mirrored[0]][:, mirrored[1]], text, corner, box)
            ramp = _ramp(side * factor, OVERLAP // 4 * factor)
            weight = np.outer(*(ramp[part] for part in inside))[..., None]
            place = tuple(slice(p.start + b, p.stop + b) for p, b in zip(inside, begins, strict=True))
            total[place] += result[inside[0], inside[1]] * weight
            weights[place] += weight
        return total / weights

    def _restore_tile(self, x: np.ndarray, text: torch.Tensor, corner: tuple[int, int], box: Box) -> np.ndarray:
        """Encode, take the one step and decode; of the tile only the `box` counts for the norms."""
        device, vae = self._execution_device, self.vae
        image = torch.from_numpy(x.transpose(2, 0, 1)[None].copy()).to(device, vae.dtype)
        with _norms_within(box, vae, self.unet):
            posterior = vae.encode(image).latent_dist
            z = posterior.mean
            if self.config.posterior == "sample":
                z = z + posterior.std * torch.from_numpy(_noise(corner, z.shape)).to(z)
            z = (z * vae.config.scaling_factor).to(self.unet.dtype)
            clean = self._take_step(z.float(), self.unet(z, self.config.time_step, text.to(z)).sample.float())
            result = vae.decode((clean / vae.config.scaling_factor).to(vae.dtype)).sample
        return result[0].float().permute(1, 2, 0).cpu().numpy()

    def _take_step(self, z: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
        if self.config.prediction == "residual":
            return z - predicted
        share = self.scheduler.alphas_cumprod[self.config.time_step].item()
        return (z - math.sqrt(1 - share) * predicted) / math.sqrt(share)


def _up(length: int, unit: int) -> int:
    return math.ceil(length / unit) * unit


def _canvas(latents: int, tile: int, unit: int) -> int:
    """Give the side that the networks see: of the picture's longer side and its padding, or of a tile."""
    largest = 2 * tile - 2 * PADDING
    if latents + 2 * PADDING > largest:
        return _up(tile, unit)
    doublings = max(math.ceil(math.log2(latents / SMALLEST)), 0)
    return _up(min(largest, SMALLEST * 2**doublings + 2 * PADDING), unit)


def _starts(length: int, side: int, unit: int) -> list[int]:
    """Spread tiles evenly over a padded picture, so that they share the overlap at least."""
    beyond = max(0, math.ceil((length - side) / unit))
    count = math.ceil(beyond * unit / (side - _up(OVERLAP, unit)))
    return [0, *(unit * (i * beyond // count) for i in range(1, count + 1))]


def _inside(begin: int, side: int, length: int) -> slice:
    """Give what of a tile lies within a picture."""
    return slice(max(-begin, 0), min(length - begin, side))


def _reflect(begin: int, count: int, length: int) -> np.ndarray:
    """Give indices into `length` pixels of `count` ones from `begin`, mirrored at both ends as often as needed."""
    period = max(2 * (length - 1), 1)
    index = np.arange(begin, begin + count) % period
    return np.minimum(index, period - index) if length > 1 else index * 0


def _ramp(side: int, margin: int) -> np.ndarray:
    """Give a tile's weights along one side: they rise over twice a margin, next to one that does not count."""
    distance = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5)
    return ((distance - margin) / (2 * margin)).clip(0, 1).astype(np.float32)


def _noise(corner: tuple[int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Draw a tile's noise, the same wherever the tile lies on the picture."""
    (top, left), (_, channels, height, width) = corner, shape
    rows = [
        np.random.default_rng([0, row]).standard_normal((left + width, channels), np.float32)[left:]
        for row in range(top, top + height)
    ]
    return np.stack(rows).transpose(2, 0, 1)[None]


@contextmanager
def _norms_within(box: Box, *networks: torch.nn.Module) -> Iterator[None]:
    """Let all group norms go by what they see in the box, given as shares: top, bottom, left, right."""
    norms = [m for network in networks for m in network.modules() if isinstance(m, torch.nn.GroupNorm)]
    hooks = [norm.register_forward_hook(partial(_normalise, box)) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _normalise(box: Box, norm: torch.nn.GroupNorm, inputs: tuple[torch.Tensor], result: torch.Tensor) -> torch.Tensor:
    """Normalise a square image (b, c, h, w), or (b, c, h * w) as attention sees it, in float32."""
    x = inputs[0].float()
    side = x.shape[2] if x.dim() == 4 else math.isqrt(x.shape[2])
    weights = _coverage(side, *box[:2]).outer(_coverage(side, *box[2:])).to(x)
    grouped = x.reshape(len(x), norm.num_groups, -1, side, side)
    mean = (grouped * weights).sum((-2, -1)).mean(2)[..., None, None, None]
    variance = ((grouped - mean).square() * weights).sum((-2, -1)).mean(2)[..., None, None, None]
    normal = ((grouped - mean) * (variance + norm.eps).rsqrt()).reshape(len(x), x.shape[1], -1)
    return (normal * norm.weight.float()[:, None] + norm.bias.float()[:, None]).reshape(x.shape).to(result.dtype)


def _coverage(length: int, begin: float, end: float) -> torch.Tensor:
    """Give the share of each of `length` pixels in what lies between `begin` and `end`."""
    covered = torch.linspace(0, 1, length + 1, dtype=torch.float64).clip(begin, end).diff()
    return covered / covered.sum()


def adain(result: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Give each channel the photo's mean and deviation; pixels are (h, w, 3) in [-1, 1]."""
    (mean, deviation), (wanted_mean, wanted_deviation) = (
        (pixels.mean((0, 1), np.float64), np.sqrt(pixels.var((0, 1), np.float64, ddof=1) + 4e-5))
        for pixels in (result, photo)
    )
    return ((result - mean) * (wanted_deviation / deviation) + wanted_mean).astype(np.float32)


def wavelet(result: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """Give the result the photo's low frequencies: what five blurs by [1 2 1] / 4, ever more dilated, leave."""
    low = photo - result
    for dilation in (1, 2, 4, 8, 16):
        for axis in (0, 1):
            padding = [(dilation, dilation) if i == axis else (0, 0) for i in range(3)]
            padded = np.moveaxis(np.pad(low, padding, mode="edge"), axis, 0)
            sides = padded[: -2 * dilation] + padded[2 * dilation :]
            low = np.moveaxis(0.25 * sides + 0.5 * padded[dilation:-dilation], 0, axis)
    return result + low


COLOR_FIXES: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "adain": adain,
    "wavelet": wavelet,
    "none": lambda result, photo: result,
}
