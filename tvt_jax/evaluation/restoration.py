"""What a model makes of files: the very files that `tvt upscale` would write."""

import time
from collections.abc import Iterable
from pathlib import Path

from tvt_jax.evaluation.pairs import Pairs
from tvt_jax.inference import load
from tvt_jax.inference.batch import upscale_file
from tvt_jax.inference.places import Naming
from tvt_jax.inference.upscaler import Upscaler


def load_model(model: Path, tile: int | None = None) -> Upscaler:
    """Read a model folder; raise ValueError where it can't upscale."""
    upscaler = load(model, tile=tile)
    if upscaler.unet is None:
        raise ValueError(f"{model} has a VAE but no UNet: it can't upscale")
    return upscaler


def place_results(pairs: Pairs, source: Path, folder: Path) -> dict[str, Path]:
    """Tell by name where the result of each input is kept: with the place, name and format of `tvt upscale`.

    Raises:
        ValueError: a result would take the place of an input or of a truth.
    """
    places = {name: _place(path, source, folder) for name, (path, _) in pairs.items()}
    originals = {path.resolve() for pair in pairs.values() for path in pair}
    if overwritten := _first(path for path in places.values() if path.resolve() in originals):
        raise ValueError(f"{overwritten} would be overwritten by a result: choose another folder for --save")
    return places


def _place(path: Path, source: Path, folder: Path) -> Path:
    target = folder / path.relative_to(source).parent
    target.mkdir(parents=True, exist_ok=True)
    return target / Naming().name(Path(path.name))


def _first(paths: Iterable[Path]) -> Path | None:
    return next(iter(paths), None)


def restore(upscaler: Upscaler, source: Path, target: Path) -> float:
    """Write the result of a file at the model's own scale, and return the seconds that it took."""
    start = time.perf_counter()
    upscale_file(upscaler, source, target, None)
    return time.perf_counter() - start
