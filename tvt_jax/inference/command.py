"""The command that upscales pictures."""

import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from PIL import Image
from tqdm import tqdm
from tyro.conf import Positional, arg

from tvt_jax.place import check, local_only

Format = Literal["png", "jpeg", "webp", "tiff", "avif"]


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, by default this program's, do what it says, and return the exit status."""
    # Pillow's guard against hostile uploads would refuse large pictures, and these are the user's own.
    Image.MAX_IMAGE_PIXELS = None
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=UserWarning)
        warnings.showwarning = _show
        try:
            return tyro.cli(upscale, prog="tvt upscale", args=words)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted; what is finished stays", file=sys.stderr)
            return 130


def upscale(
    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="IN [IN ...] OUT")],
    /,
    model: Path | None = None,
    scale: float = 4.0,
    strength: float = 1.0,
    prompt: str | None = None,
    tagger: Path | None = None,
    strength_pixel: float = 1.0,
    strength_semantic: float = 1.0,
    color_fix: Literal["adain", "wavelet", "none"] | None = None,
    tile: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: Literal["cpu", "gpu", "tpu"] | None = None,
    device_rows: int = 1,
    suffix: str = "",
    format: Format | None = None,
    quality: int | None = None,
    skip_existing: bool = False,
    strip_metadata: bool = False,
    watch: bool = False,
) -> int:
    """Upscale pictures, and every picture in folders and the folders within them.

    Args:
        paths: pictures (PNG, JPEG, WebP, TIFF, AVIF, HEIC, BMP, GIF) and folders of them, and last where results go: a
            folder, or for one picture a file, in the format of its ending; - is standard input, or output
        model: a model folder, hf://OWNER/NAME or gs://BUCKET/NAME; the default is the small model in the package
        scale: 1 to 8, fractions too
        strength: how much of the restoration is taken, from 0 (the enlarged input) to 1
        prompt: what the picture shows; the default is the model's own prompt
        tagger: a tagger folder, or hf://OWNER/NAME: what it finds in each picture goes before the prompt
        strength_pixel: of PiSA-SR: how much of the degradation is taken away, from 0
        strength_semantic: of PiSA-SR: how much detail is added, from 0
        color_fix: how the input's colours are given back; the default is the model's own way
        tile: side of the tiles for large pictures, in latent pixels; the default is the largest that fits the memory
        dtype: what the networks compute in
        device: what computes; the default is the fastest that is there
        device_rows: split each picture's rows over this many devices
        suffix: put between a result's name and its ending
        format: of all results; the default is each picture's own
        quality: of JPEG, WebP and AVIF, 1 to 100; the default is 95
        skip_existing: leave out what the same model made with the same options from the same file before
        strip_metadata: leave out what a file tells beside its pixels and their colour profile
        watch: go on, until interrupted, with what is dropped into the folders
    """
    if len(paths) < 2:
        print("error: tvt upscale needs pictures, and last where results go: IN [IN ...] OUT", file=sys.stderr)
        return 2
    local_only(*paths)
    if model:
        check(model, "gs", "hf")
    # Imported here because jax takes a second to load, and --help shouldn't.
    from tvt_jax.hub import find
    from tvt_jax.inference import load
    from tvt_jax.inference.batch import How
    from tvt_jax.inference.check import check_scale
    from tvt_jax.inference.job import check_quality, require_folders, settle
    from tvt_jax.inference.mark import fingerprint, recipe_of
    from tvt_jax.inference.places import Naming
    from tvt_jax.inference.strength import check_strength
    from tvt_jax.inference.upscaler import PRETRAINED
    from tvt_jax.inference.watch import watch as watch_folders
    from tvt_jax.inference.writing import QUALITY

    check_scale(scale)
    check_strength(strength)
    check_quality(quality)
    naming = Naming(suffix=suffix, image_format=format.upper() if format else None)
    if watch:
        require_folders(paths)
        with suppress(FileNotFoundError):  # there may be nothing yet
            settle(paths, naming, None)
    job = None if watch else settle(paths, naming, quality)
    options: dict[str, Any] = {"prompt": prompt, "color_fix": color_fix, "tile": tile, "dtype": dtype}
    options |= {"strength_pixel": strength_pixel, "strength_semantic": strength_semantic}
    folder = find(PRETRAINED if model is None else model)
    written: dict[str, Any] = {"strength": strength, "quality": quality or QUALITY, "strip_metadata": strip_metadata}
    asked = options | written | {"scale": scale, "tagger": fingerprint(find(tagger)) if tagger else None}
    how = How(recipe=recipe_of(fingerprint(folder), asked), **written)
    if job is not None and skip_existing:
        job = job.left(how.recipe)
        if job is None:
            return 0
    if job is not None:
        job.check(scale)
    if device is not None:
        _choose(device)
    upscaler = load(folder, progress=True, device_rows=device_rows, tagger=tagger, **options)
    if upscaler.unet is None:
        raise ValueError(f"{model} has a VAE but no UNet: it can't upscale")
    if job is None:
        watch_folders(lambda: settle(paths, naming, None), upscaler, scale, how)
    return job.run(upscaler, scale, how)


def _choose(device: str) -> None:
    """Have jax compute on `device`; raise ValueError where there is none."""
    import jax

    jax.config.update("jax_platforms", device)
    found = None
    with suppress(RuntimeError):
        found = jax.default_backend()
    if found != device:
        raise ValueError(f"jax sees no {device}: drop --device, or install jax for it")


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    tqdm.write(f"warning: {message}", file=sys.stderr)
