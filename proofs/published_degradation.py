"""The arithmetic of the published degradation in torch, batch by batch, as a yardstick of speed.

Source: Real-ESRGAN (arXiv 2107.10833) and its code, from which come what costs time there: kernels filled up to 21x21,
one draw a batch for the resizes and the order at the end, and JPEG by matrix products with a rounding that has a
gradient. The sharpening of the ground truth is left out, since it is no degradation. Parameters are drawn by
`tvt_jax.data.degradation.draw`, one for each image, so that both sides do the same work.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from tvt_jax.data.degradation import Parameters, RoundParameters
from tvt_jax.data.kernels import Kernel, kernel_taps
from tvt_jax.data.operators import Noise

LARGEST_KERNEL = 21
GREY = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)

# JPEG (ITU-T T.81), annex K, and JFIF's colours.
_LUMA = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
    18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
_CHROMA = (
    """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99""" + " 99" * 32
)
TABLES = [torch.tensor([float(number) for number in table.split()]) for table in (_LUMA, _CHROMA, _CHROMA)]
TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
TO_RGB = torch.linalg.inv(TO_YCC)


def _cosines() -> torch.Tensor:
    """Make the transform of a block of 8x8 as a matrix of 64x64; its transpose is the way back."""
    place = torch.arange(8.0)
    rows = torch.cos((2 * place[None] + 1) * place[:, None] * math.pi / 16) / 2
    rows[0] /= math.sqrt(2)
    return torch.kron(rows, rows)


COSINES = _cosines()


def degrade(images: np.ndarray, drawn: Sequence[Parameters], scale: int = 4) -> np.ndarray:
    """Degrade uint8 images [b h w 3] to 1/scale; what is drawn once a batch comes from the first's parameters."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
    height, width = x.shape[2:]
    size, batch = (height // scale, width // scale), drawn[0]
    first, second = [p.first for p in drawn], [p.second for p in drawn]
    x = blur(x, [p.blur for p in first])
    x = functional.interpolate(x, scale_factor=batch.first.resize.factor, mode=batch.first.resize.interpolation)
    x = jpeg(add_noise(x, [p.noise for p in first]), _qualities(first))
    if batch.second.blur:
        x = blur(x, [p.blur for p in second])
    inner = [int(length * batch.second.resize.factor) for length in size]
    x = functional.interpolate(x, size=inner, mode=batch.second.resize.interpolation)
    x = add_noise(x, [p.noise for p in second])
    if batch.sinc_before_jpeg:
        x = blur(functional.interpolate(x, size=size, mode=batch.final_interpolation), [p.final_sinc for p in drawn])
        x = jpeg(x.clamp(0, 1), _qualities(second))
    else:
        x = jpeg(x.clamp(0, 1), _qualities(second))
        x = blur(functional.interpolate(x, size=size, mode=batch.final_interpolation), [p.final_sinc for p in drawn])
    return (x * 255).round().clamp(0, 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)


def blur(x: torch.Tensor, kernels: Sequence[Kernel | None]) -> torch.Tensor:
    """Filter each image with its kernel, filled up with zeros; None is filtered too, with a pulse."""
    taps = torch.from_numpy(np.stack([_filled(kernel) for kernel in kernels]))
    batch, channels, height, width = x.shape
    padded = functional.pad(x, (LARGEST_KERNEL // 2,) * 4, mode="reflect").view(1, batch * channels, height + 20, -1)
    filtered = functional.conv2d(padded, taps[:, None].repeat_interleave(channels, 0), groups=batch * channels)
    return filtered.view(batch, channels, height, width)


def add_noise(x: torch.Tensor, noises: Sequence[Noise]) -> torch.Tensor:
    """Add noise of the first's kind and strength, and clip; grey noise is made for all where one needs it."""
    make = _gaussian if noises[0].kind == "gaussian" else _poisson
    grey = torch.tensor([float(noise.grey) for noise in noises]).view(-1, 1, 1, 1)
    made = make(x)
    if grey.any():
        made = made * (1 - grey) + make((x * GREY).sum(1, keepdim=True)) * grey
    return (x + made * noises[0].strength).clamp(0, 1)


def jpeg(x: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
    """Encode and decode with 4:2:0, without the lossless part; sides are filled up to multiples of 16."""
    height, width = x.shape[2:]
    x = functional.pad(x, (0, -width % 16, 0, -height % 16)) * 255
    factor = torch.where(qualities < 50, 5000 / qualities, 200 - 2 * qualities).view(-1, 1, 1) / 100
    y, *colours = torch.einsum("ij,bjhw->ibhw", TO_YCC, x)
    planes = [y - 128, *(functional.avg_pool2d(colour, 2) for colour in colours)]
    y, *colours = [
        _quantised(plane, (table * factor).clamp(min=1)) for plane, table in zip(planes, TABLES, strict=True)
    ]
    colours = [colour.repeat_interleave(2, 1).repeat_interleave(2, 2) for colour in colours]
    rgb = torch.einsum("ij,jbhw->bihw", TO_RGB, torch.stack([y + 128, *colours]))
    return (rgb.clamp(0, 255) / 255)[:, :, :height, :width]


def _quantised(plane: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    batch, height, width = plane.shape
    blocks = plane.view(batch, height // 8, 8, width // 8, 8).transpose(2, 3).reshape(batch, -1, 64)
    levels = blocks @ COSINES.T / table
    levels = levels.round() + (levels - levels.round()) ** 3
    blocks = (levels * table) @ COSINES
    return blocks.view(batch, height // 8, width // 8, 8, 8).transpose(2, 3).reshape(batch, height, width)


def _gaussian(x: torch.Tensor) -> torch.Tensor:
    return torch.randn_like(x) / 255


def _poisson(x: torch.Tensor) -> torch.Tensor:
    seen = (x * 255).round().clamp(0, 255) / 255
    counts = [2 ** math.ceil(math.log2(len(torch.unique(image)))) for image in seen]
    scale = torch.tensor(counts, dtype=x.dtype).view(-1, 1, 1, 1)
    return torch.poisson(seen * scale) / scale - seen


def _filled(kernel: Kernel | None) -> np.ndarray:
    taps = np.ones((1, 1), np.float32) if kernel is None else kernel_taps(kernel)
    return np.pad(taps, (LARGEST_KERNEL - len(taps)) // 2)


def _qualities(rounds: Sequence[RoundParameters]) -> torch.Tensor:
    return torch.tensor([float(p.jpeg_quality) for p in rounds])
