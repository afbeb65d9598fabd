"""Upscaling files: which goes where, settled before any work, and one bad file never stops the others."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from tvt_jax.inference.check import Scale
from tvt_jax.inference.images import READABLE, read_picture, size_of
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.inference.writing import FORMATS, check_size, format_of, write_picture

Pair = tuple[Path, Path]


def pair_files(source: Path, target: Path) -> list[Pair]:
    """Pair every picture of `source` (a file or a folder) with the file its result goes to.

    A folder is searched through, hidden files and `target` itself left out; results keep name and place. Formats that
    are read but not written become PNG.

    Raises:
        FileNotFoundError: there is no such file, or no picture in the folder.
        ValueError: the results' format is unknown, two would get the same name, or one would overwrite an input.
    """
    if source.is_dir():
        pairs = _pair_folder(source, target)
    elif source.is_file():
        pairs = [(source, target / _result_name(Path(source.name)) if target.is_dir() else target)]
    else:
        raise FileNotFoundError(f"{source} doesn't exist")
    for _, result in pairs:
        format_of(result)
    shared = [str(result) for result, count in Counter(result for _, result in pairs).items() if count > 1]
    if shared:
        raise ValueError(f"several pictures would be written to {', '.join(shared)}: rename all but one of each")
    inputs = {path.resolve() for path, _ in pairs}
    if overwritten := [str(result) for _, result in pairs if result.resolve() in inputs]:
        raise ValueError(f"{overwritten[0]} is an input and would be overwritten: choose another OUT")
    return pairs


def upscale_files(upscaler: Upscaler, pairs: list[Pair], scale: Scale | None) -> dict[Path, str]:
    """Upscale the files of `pairs`, with a progress bar on a terminal, and say of each that failed why."""
    failures = {}
    for source, target in tqdm(pairs, unit="picture", disable=None if len(pairs) > 1 else True):
        try:
            upscale_file(upscaler, source, target, scale)
        # RuntimeError is how XLA says that memory ran out.
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            failures[source] = _one_line(error)
            tqdm.write(f"failed: {source}: {failures[source]}")
    return failures


def upscale_file(upscaler: Upscaler, source: Path, target: Path, scale: Scale | None) -> None:
    """Upscale one file; `target` is written whole or not at all."""
    if size := size_of(source):
        upscaler.check_fits(*size)
    picture = read_picture(source)
    height, width = picture.pixels.shape[:2]
    check_size(target, *upscaler.result_size(height, width, scale))
    write_picture(target, replace(picture, pixels=upscaler.upscale(picture.pixels, scale)))


def _pair_folder(source: Path, target: Path) -> list[Pair]:
    if target.is_file():
        raise ValueError(f"{source} is a folder, so OUT must be one too, and {target} is a file")
    results_within = source.resolve() in target.resolve().parents
    files = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.suffix.lower() in READABLE]
    pairs = [
        (source / file, target / _result_name(file))
        for file in files
        if (source / file).is_file()
        and not any(part.startswith(".") for part in file.parts)
        and not (results_within and target.resolve() in (source / file).resolve().parents)
    ]
    if not pairs:
        raise FileNotFoundError(f"{source} has no pictures in it ({' '.join(sorted(READABLE))})")
    return pairs


def _result_name(file: Path) -> Path:
    return file if file.suffix.lower() in FORMATS else file.with_suffix(".png")


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
