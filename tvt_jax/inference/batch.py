"""Upscaling files: one bad file never stops the others."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from tvt_jax.inference.check import Scale
from tvt_jax.inference.images import Picture, decode_picture, read_mark, size_of
from tvt_jax.inference.mark import mark_for, prompted, without_prompt
from tvt_jax.inference.metadata import Metadata
from tvt_jax.inference.places import Pair
from tvt_jax.inference.strength import Strength
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.inference.writing import QUALITY, check_size, write_picture


@dataclass(frozen=True, kw_only=True)
class How:
    """How results are made and written.

    Attributes:
        strength: from the enlarged input (0) to all of the restoration (1).
        quality: of JPEG, WebP and AVIF, 1 to 100.
        strip_metadata: leave out what the input tells beside its pixels and their profile, and its times.
        recipe: what results are marked by; without one they have no mark.
    """

    strength: Strength = 1
    quality: int = QUALITY
    strip_metadata: bool = False
    recipe: str = ""


def upscale_files(
    upscaler: Upscaler,
    pairs: list[Pair],
    scale: Scale | None,
    how: How = How(),
) -> dict[Path, str]:
    """Upscale the files of `pairs`, with a progress bar on a terminal, and say of each that failed why."""
    failures = {}
    for source, target in tqdm(pairs, unit="picture", disable=None if len(pairs) > 1 else True):
        try:
            upscale_file(upscaler, source, target, scale, how)
        # RuntimeError is how XLA says that memory ran out.
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            failures[source] = _one_line(error).removeprefix(f"{source} ")
            tqdm.write(f"failed: {source}: {failures[source]}", file=sys.stderr)
    return failures


def upscale_file(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    scale: Scale | None,
    how: How = How(),
) -> None:
    """Upscale one file; `target` is written whole or not at all."""
    if size := size_of(source):
        upscaler.check_fits(*size)
        check_size(target, *upscaler.result_size(*size, scale))
    picture = upscale_data(upscaler, source.read_bytes(), str(source), scale, how)
    status = source.stat()
    write_picture(
        target, picture, how.quality, None if how.strip_metadata else (status.st_atime_ns, status.st_mtime_ns)
    )


def upscale_data(upscaler: Upscaler, data: bytes, name: str, scale: Scale | None, how: How) -> Picture:
    """Upscale the picture in a file's content, which messages call `name`."""
    picture = decode_picture(data, name)
    metadata = Metadata() if how.strip_metadata else picture.metadata
    prompts: list[str] = []
    pixels = upscaler.upscale(picture.pixels, scale, strength=how.strength, told=prompts.append)
    if how.recipe:
        mark = mark_for(how.recipe, data)
        # What a picture shows is not to be told of one whose metadata goes.
        metadata = metadata.marked(prompted(mark, prompts[-1]) if prompts and not how.strip_metadata else mark)
    return replace(picture, pixels=pixels, metadata=metadata)


def is_done(pair: Pair, recipe: str) -> bool:
    """Tell whether a result is there that was made by the same recipe from the same content."""
    source, target = pair
    mark = read_mark(target) if target.is_file() else None
    if mark is None or not mark.startswith(recipe):
        return False
    return without_prompt(mark) == mark_for(recipe, source.read_bytes())


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
