"""Real-world super-resolution in one step: the `tvt` command."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from PIL import Image
from tyro.conf import Positional, arg


def upscale(
    source: Annotated[Positional[Path], arg(metavar="IN")],
    target: Annotated[Positional[Path], arg(metavar="OUT")],
    /,
    model: Path | None = None,
    scale: float = 4.0,
    prompt: str | None = None,
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
        color_fix: how the input's colours are given back; the default is the model's own way
        tile: work in overlapping tiles of this many latent pixels (96 is usual), for pictures too large for the memory
        dtype: what the networks compute in
        device_rows: split each picture's rows over this many devices
    """
    # Imported here because jax takes a second to load, and --help shouldn't.
    from tvt_jax.inference import load
    from tvt_jax.inference.batch import pair_files, upscale_files
    from tvt_jax.inference.upscaler import check_scale

    check_scale(scale)
    pairs = pair_files(source, target)
    options: dict[str, Any] = {"color_fix": color_fix, "tile": tile, "dtype": dtype, "device_rows": device_rows}
    upscaler = load(model, prompt=prompt, progress=True, **options)
    if upscaler.unet is None:
        raise ValueError(f"{model} has a VAE but no UNet: it can't upscale")
    failures = upscale_files(upscaler, pairs, scale)
    if failures:
        names = "".join(f"\n  {path}" for path in failures)
        print(f"error: {len(failures)} of {len(pairs)} pictures failed:{names}", file=sys.stderr)
    return 1 if failures else 0


def main() -> None:
    """Run the `tvt` command and exit: 0 if all went well, 1 after an error, 2 for a wrong command line."""
    # Pillow's guard against hostile uploads would refuse large pictures, and these are the user's own.
    Image.MAX_IMAGE_PIXELS = None
    try:
        status = tyro.extras.subcommand_cli_from_dict({"upscale": upscale}, prog="tvt", description=__doc__)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what is finished stays")
    sys.exit(status)


if __name__ == "__main__":
    main()
