"""The command that upscales pictures."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from PIL import Image
from tyro.conf import Positional, arg


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, by default this program's, do what it says, and return the exit status."""
    # Pillow's guard against hostile uploads would refuse large pictures, and these are the user's own.
    Image.MAX_IMAGE_PIXELS = None
    try:
        return tyro.cli(upscale, prog="tvt upscale", args=words)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what is finished stays", file=sys.stderr)
        return 130


def upscale(
    source: Annotated[Positional[Path], arg(metavar="IN")],
    target: Annotated[Positional[Path], arg(metavar="OUT")],
    /,
    model: Path | None = None,
    scale: float = 4.0,
    prompt: str | None = None,
    tagger: Path | None = None,
    color_fix: Literal["adain", "wavelet", "none"] | None = None,
    tile: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device_rows: int = 1,
) -> int:
    """Upscale a picture, or every picture in a folder and the folders within it.

    Args:
        source: a picture (PNG, JPEG, WebP, TIFF, BMP, GIF) or a folder of them
        target: the result, in the format of its ending (.png .jpg .webp .tif); for a folder, a folder
        model: a model folder, or hf://OWNER/NAME on the hub; the default is the small model that comes with the package
        scale: 1 to 8, fractions too
        prompt: what the picture shows; the default is the model's own prompt
        tagger: a tagger folder, or hf://OWNER/NAME: what it finds in each picture goes before the prompt
        color_fix: how the input's colours are given back; the default is the model's own way
        tile: side of the tiles for large pictures, in latent pixels; the default is the largest that fits the memory
        dtype: what the networks compute in
        device_rows: split each picture's rows over this many devices
    """
    # Imported here because jax takes a second to load, and --help shouldn't.
    from tvt_jax.inference import load
    from tvt_jax.inference.batch import pair_files, upscale_files
    from tvt_jax.inference.check import check_scale

    check_scale(scale)
    pairs = pair_files(source, target)
    options: dict[str, Any] = {"color_fix": color_fix, "tile": tile, "dtype": dtype, "device_rows": device_rows}
    upscaler = load(model, prompt=prompt, tagger=tagger, progress=True, **options)
    if upscaler.unet is None:
        raise ValueError(f"{model} has a VAE but no UNet: it can't upscale")
    failures = upscale_files(upscaler, pairs, scale)
    if failures:
        names = "".join(f"\n  {path}" for path in failures)
        print(f"error: {len(failures)} of {len(pairs)} pictures failed:{names}", file=sys.stderr)
    return 1 if failures else 0
