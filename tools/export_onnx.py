"""Write a model as one ONNX file that enlarges photos: `python tools/export_onnx.py FOLDER OUT.onnx`.

FOLDER is an export for diffusers (`python -m convert export`). The file takes `image`, (1, 3, h, w) in [0, 1], with
sides that are multiples of 8, and gives `large`, enlarged and restored, with the colours of the photo.
"""

import importlib.util
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import tyro
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

# Pixels of the result around the picture, which norms leave out: as tvt_jax/inference does it.
MARGIN = 64
# Sides of a photo must be multiples of this, for the borders of all maps to lie between their pixels.
UNIT = 8
COLOR_FIXES = ("wavelet", "adain", "none")


class InnerNorm(nn.Module):
    """A group norm that goes by what lies within a margin."""

    def __init__(self, norm: nn.GroupNorm, margin: int) -> None:
        super().__init__()
        self.norm, self.margin = norm, margin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (b, c, h, w)."""
        inside = slice(self.margin, -self.margin)
        inner = x[:, :, inside, inside].reshape(x.shape[0], self.norm.num_groups, -1)
        mean = inner.mean(2, keepdim=True)
        variance = (inner - mean).square().mean(2, keepdim=True)
        normal = (x.reshape(x.shape[0], self.norm.num_groups, -1) - mean) * (variance + self.norm.eps).rsqrt()
        return normal.reshape(x.shape) * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


class Enlarger(nn.Module):
    """All of a restoration, from the photo to the finished result."""

    prompt: torch.Tensor

    def __init__(self, folder: Path) -> None:
        """Read an export for diffusers.

        Raises:
            ValueError: the model asks for what is not done here.
        """
        super().__init__()
        card = json.loads((folder / "tvt.json").read_text(encoding="utf-8"))
        check(card)
        self.scale, self.time_step, self.color_fix = card["scale"], card["time_step"], card["color_fix"]
        self.vae: Any = AutoencoderKL.from_pretrained(folder, subfolder="vae").eval()
        self.unet: Any = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").eval()
        schedule: Any = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        self.share = schedule.alphas_cumprod[self.time_step].item()
        self.register_buffer("prompt", load_file(folder / "prompt_embedding.safetensors")["prompt"][None])
        self._set_margins()

    def _set_margins(self) -> None:
        """Let norms leave the margin out, which is as many times as small as a map is smaller than the result."""
        side = 4 * MARGIN
        seen: dict[nn.Module, torch.Size] = {}
        norms = [m for m in self.modules() if isinstance(m, nn.GroupNorm)]
        hooks = [norm.register_forward_hook(lambda m, x, _: seen.__setitem__(m, x[0].shape)) for norm in norms]
        with torch.no_grad():
            self.restore(torch.zeros(1, 3, side, side))
        for hook in hooks:
            hook.remove()
        for parent in list(self.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.GroupNorm) and child in seen:
                    if len(seen[child]) != 4:
                        raise ValueError("the VAE has attention in its middle block: that is not written as ONNX here")
                    setattr(parent, name, InnerNorm(child, MARGIN * seen[child][-1] // side))

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        """Encode, take the one step, decode; (b, 3, h, w) in [-1, 1]."""
        factor = self.vae.config.scaling_factor
        z = self.vae.encode(x).latent_dist.mean * factor
        noise = self.unet(z, self.time_step, self.prompt).sample
        clean = (z - math.sqrt(1 - self.share) * noise) / math.sqrt(self.share)
        return self.vae.decode(clean / factor).sample

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Enlarge and restore a photo (1, 3, h, w) in [0, 1]."""
        x = enlarge(image, self.scale) * 2 - 1
        inside = slice(MARGIN, -MARGIN)
        y = self.restore(functional.pad(x, (MARGIN,) * 4, mode="reflect"))[:, :, inside, inside].clip(-1, 1)
        if self.color_fix == "wavelet":
            y = y + low_frequencies(x - y)
        elif self.color_fix == "adain":
            (own, own_mean), (wanted, mean) = (torch.var_mean(a, (2, 3), keepdim=True) for a in (y, x))
            y = (y - own_mean) * ((wanted + 4e-5) / (own + 4e-5)).sqrt() + mean
        return ((y + 1) / 2).clip(0, 1)


def check(card: dict[str, Any]) -> None:
    """Raise ValueError where a model asks for what is not done here."""
    known = {"posterior": ("mean",), "prediction": ("noise",), "smallest_side": (0,), "color_fix": COLOR_FIXES}
    for name, values in known.items():
        if card.get(name, values[0]) not in values:
            raise ValueError(
                f"the model's {name} is {card[name]!r}: only {', '.join(map(repr, values))} is written as ONNX"
            )


def enlarge(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Enlarge by Pillow's bicubic filter, which rounds to 8 bits after the rows and again after the columns."""
    # Distances of `scale` pixels of the result, which lie in one of the photo's, to that one and two on either side.
    distance = (torch.arange(-2, 3) + 0.5 - (torch.arange(scale)[:, None] + 0.5) / scale).abs()
    near, far = (1.5 * distance - 2.5) * distance**2 + 1, ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    taps = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return _enlarge_rows(_enlarge_rows(image, taps).transpose(2, 3), taps).transpose(2, 3)


def _enlarge_rows(image: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Make each pixel of a row as many as there are `taps`; those within the picture are made to add up to 1."""
    kernels, padding = taps[:, None, None], (0, 2)
    total = functional.conv2d(torch.ones_like(image[:, :1]), kernels, padding=padding)
    sums = functional.conv2d(image, kernels.repeat(3, 1, 1, 1), padding=padding, groups=3)
    # Not unflatten, which writes the sizes of the photo that is traced into the file.
    parts = (sums / total.repeat(1, 3, 1, 1)).reshape(-1, 3, len(taps), image.shape[2], image.shape[3])
    return (parts.permute(0, 1, 3, 4, 2).flatten(3).clip(0, 1) * 255).round() / 255


def low_frequencies(x: torch.Tensor) -> torch.Tensor:
    """Blur five times by [1 2 1] / 4, ever more dilated."""
    taps = torch.tensor([0.25, 0.5, 0.25], device=x.device)
    kernel = torch.outer(taps, taps).expand(3, 1, 3, 3)
    for dilation in (1, 2, 4, 8, 16):
        padded = functional.pad(x, (dilation,) * 4, mode="replicate")
        x = functional.conv2d(padded, kernel, groups=3, dilation=dilation)
    return x


def main(folder: Path, out: Path, /) -> None:
    """Write FOLDER's model into OUT."""
    if importlib.util.find_spec("onnx") is None:
        raise ValueError("the package onnx is missing: pip install '.[onnx]'")
    enlarger = Enlarger(folder).eval()
    photo = torch.zeros(1, 3, 6 * UNIT, 8 * UNIT)
    # torch.export takes many times as long for sizes that may change, and tracing tells of each check of a shape.
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", torch.jit.TracerWarning)
    axes = {name: {2: f"{name} rows", 3: f"{name} columns"} for name in ("image", "large")}
    torch.onnx.export(
        enlarger,
        (photo,),
        out,
        dynamo=False,
        input_names=["image"],
        output_names=["large"],
        dynamic_axes=axes,
        opset_version=18,
    )


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
