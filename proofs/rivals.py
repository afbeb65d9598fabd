"""OSEDiff and PiSA-SR at full size beside diffusers and PEFT: `python -m proofs.rivals --work DIR --photo PHOTO`.

Writes Stable Diffusion of random weights (2.6 GB) and both files of LoRA in the published layout, imports them (4 GB
each), and compares every tensor, and what the networks make of the photo's middle, with PyTorch's, in float32. The exit
status is 1 where restored pixels, in [-1, 1], differ by more than 2e-4. It takes 10 GB of memory, mapped files with it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import report
from benchmarks.random_weights import RandomTensor
from convert.adapters import OSEDIFF, PISASR, UNET, VAE, Kind, layers_of
from convert.torch_writer import write_torch
from proofs.conversion import run
from proofs.full_size import RANK, write_sd
from tvt_jax.models.shapes import Shapes, tensor_shapes
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

PIXELS = 2e-4
ENCODER = ("encoder.", "quant_conv.")


@dataclass(frozen=True, kw_only=True)
class Options:
    """OSEDiff and PiSA-SR at full size.

    Attributes:
        work: a folder for the checkpoints, about 11 GB; those that are there are taken.
        photo: a photo of `side` pixels or more.
        side: side in pixels of its middle that the networks are compared on.
    """

    work: Path
    photo: Path
    side: int = 256


def random_lora(shapes: Shapes, layers: list[str], suffix: str = "") -> dict[str, np.ndarray]:
    """Draw LoRA by PEFT's names, under the adapter that both methods have for a layer's part of the network."""
    tensors = {}
    for layer in layers:
        down, up = (
            layer.startswith(("down_blocks", "conv_in", "encoder.", "quant_conv")),
            layer.startswith(("up_blocks", "conv_out")),
        )
        adapter = f"default_{'encoder' if down else 'decoder' if up else 'others'}{suffix}"
        rows, columns, *window = shapes[f"{layer}.weight"]
        point = [1 for _ in window]
        for half, shape in (("A", (RANK, columns, *window)), ("B", (rows, RANK, *point))):
            name = f"{layer}.lora_{half}.{adapter}.weight"
            tensors[name] = np.asarray(RandomTensor(name, shape)) * np.float32(0.5)
    return tensors


def write_osediff(file: Path, unet: UNet2DConditionConfig, vae: AutoencoderKLConfig) -> None:
    """Write OSEDiff's file: LoRA of the UNet and of the VAE's encoder, and the UNet's first layer."""
    shapes, of_vae = tensor_shapes(unet), tensor_shapes(vae)
    first = {
        f"conv_in.base_layer.{half}": np.asarray(RandomTensor(f"trained {half}", shapes[f"conv_in.{half}"]))
        for half in ("weight", "bias")
    }
    content = {
        "rank_unet": RANK,
        "rank_vae": RANK,
        UNET: random_lora(shapes, layers_of(shapes)) | first,
        VAE: random_lora(of_vae, layers_of(of_vae, ENCODER)),
    }
    write_torch(file, _with_lists(content, OSEDIFF))


def write_pisasr(file: Path, unet: UNet2DConditionConfig) -> None:
    """Write PiSA-SR's file: two sets of LoRA of the same layers."""
    shapes = tensor_shapes(unet)
    sets = [random_lora(shapes, layers_of(shapes), f"_{which}") for which in ("pix", "sem")]
    content = {"lora_rank_unet_pix": RANK, "lora_rank_unet_sem": RANK, UNET: sets[0] | sets[1]}
    write_torch(file, _with_lists(content, PISASR))


def _with_lists(content: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Add the lists of layers, which nothing reads: the names of the tensors tell."""
    return {name: [] for name in sorted(kind.entries - content.keys())} | content


def measure(options: Options) -> Iterator[tuple[str, float]]:
    """Import both and give every difference: of tensors and pixels absolute, of others in standard deviations."""
    sd = options.work / "sd"
    if not sd.exists():
        write_sd(sd)
    for option, name in (("--osediff", "osediff"), ("--pisasr", "pisa_sr")):
        file, model = options.work / f"{name}.pkl", options.work / name
        if name == "osediff":
            write_osediff(file, UNet2DConditionConfig(), AutoencoderKLConfig())
        else:
            write_pisasr(file, UNet2DConditionConfig())
        run("convert", "import", option, file, "--sd", sd, "--out", model)
        words = ("--model", model, "--reference", file, "--sd", sd, "--photo", options.photo, "--side", options.side)
        # Without tolerances of its own: what is too much is said here.
        for line in run("convert", "verify", *words, "--tolerance", 1, "--pixel-tolerance", 1).said.splitlines():
            what, found, figures = line.partition(": largest difference ")
            if found:
                yield f"{name}: {what}", float(figures.split(",")[0])


def main() -> None:
    """Print the differences, and end with status 1 if the pixels are too far apart."""
    far = False
    for what, figure in measure(tyro.cli(Options, description=__doc__)):
        print(f"| {what} | {figure:.1e} |", flush=True)
        far |= what.endswith("restoration") and figure > PIXELS
    sys.exit(1 if far else 0)


if __name__ == "__main__":
    report.run_as_command(main)
