"""From a release's files to its figures, beside the published ones.

    python -m benchmarks.reproduce --release CKP --sd SD --tagger TAGGER --bench DIR [--out runs/reproduce]

Imports the TVT release, restores every set below DIR, scores the results, and prints a table a set. `--model MODEL`
takes a model folder in place of a release. DIR has folders of the names that `sets.py` lists; docs/benchmarks.md says
where the sets are from and what is in them. What is made is kept, so the same command goes on where it was cut off.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import UInt8

import tvt_jax
from benchmarks import report
from benchmarks.realsr import Method, make_results, read, score_results
from benchmarks.reproduce import sets
from benchmarks.reproduce.published import PUBLISHED, Figures
from benchmarks.reproduce.read_back import agreement, load_page_reader, read_lines
from benchmarks.text import load_reader
from convert.to_model import import_tvt
from convert.weights import needed_of_sd, needed_of_tvt
from tvt_jax.evaluation import METRICS
from tvt_jax.evaluation.metrics import Metric
from tvt_jax.files import write_whole
from tvt_jax.fingerprint import RESTORATION_CODE, code_fingerprint
from tvt_jax.hub import fetch
from tvt_jax.inference.mark import fingerprint
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.pixels import from_uint8, to_uint8
from tvt_jax.place import local_only

PHOTO_METRICS = ("psnr-y", "ssim-y", "lpips-alex", "dists", "niqe")
TEXT_METRICS = ("psnr-rgb", "ssim-rgb", "lpips-alex")
PAGE_METRICS = ("psnr-rgb", "lpips-vgg")
NED = "ned"
_BORDER = 2  # pixels that Real-CE's own scores leave out at each side
_FORMATS = {"psnr-y": ".2f", "psnr-rgb": ".2f", "niqe": ".2f"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """A release, and the sets to score it on.

    Attributes:
        bench: folder of the sets.
        release: the TVT release's folder of checkpoints, or hf://OWNER/NAME/FOLDER.
        sd: Stable Diffusion 2.1, which gives it the text encoder; or its hub name.
        tagger: tagger folder, or its hub name: what it finds in each picture goes before the prompt.
        model: a model folder in place of release and sd; or its hub name.
        sets: those to score; without names all that are there.
        limit: only the first so many pictures of each.
        dtype: what the networks compute in, float32 or bfloat16.
        out: where the model, results, scores and tables are kept.
    """

    bench: Path
    release: Path | None = None
    sd: Path | None = None
    tagger: Path | None = None
    model: Path | None = None
    sets: tuple[str, ...] = ()
    limit: int | None = None
    dtype: str = "float32"
    out: Path = Path("runs/reproduce")

    def __post_init__(self) -> None:
        local_only(self.bench, self.out)
        if (self.model is None) == (self.release is None or self.sd is None):
            raise ValueError("give --release and --sd, or --model in their place")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit {self.limit} must be 1 or more pictures")
        if unknown := [name for name in self.sets if name not in sets.SETS]:
            raise ValueError(f"there is no set {unknown[0]!r}: choose from {', '.join(sets.SETS)}")


@dataclass(frozen=True)
class Restorer:
    """What restores the pictures, and what its results depend on beside them."""

    upscaler: Upscaler
    identity: str

    def method(self, results: Path, upscale: Callable[..., Any]) -> Method:
        """Give what `make_results` takes."""
        return Method(name=results.name, results=results, identity=self.identity, upscale=upscale)


def model_folder(options: Options) -> Path:
    """Give the model folder, imported from the release unless it was before.

    Raises:
        FileExistsError: another release was imported into this `out`.
    """
    if options.model:
        return fetch(options.model)
    assert options.release and options.sd
    folder, record = options.out / "model", options.out / "release.json"
    files = {"release": str(options.release), "sd": str(options.sd)}
    if record.is_file() and json.loads(record.read_text()) != files:
        raise FileExistsError(f"{folder} was made of other files ({record}): choose another --out")
    if not (folder / "tvt.json").is_file():
        write_whole(record, json.dumps(files, indent=1) + "\n")
        sd = fetch(options.sd, partial(needed_of_sd, networks=False))
        import_tvt(fetch(options.release, needed_of_tvt), sd, folder)
    return folder


def load(options: Options) -> Restorer:
    """Import and load the model."""
    model = model_folder(options)
    tagger = fetch(options.tagger) if options.tagger else None
    known = [fingerprint(folder) for folder in (model, tagger) if folder]
    upscaler = tvt_jax.load(model, tagger=tagger, dtype=options.dtype)
    return Restorer(upscaler, "".join([*known, options.dtype, code_fingerprint(RESTORATION_CODE)]))


def measure(options: Options) -> dict[str, dict[str, Any]]:
    """Give the mean figures of each set, and how many pictures they are of."""
    found = sets.find_sets(options.bench)
    if missing := [name for name in options.sets if name not in found]:
        raise FileNotFoundError(f"{options.bench / missing[0]} is not there: docs/benchmarks.md says what is in it")
    restorer = load(options)
    return {name: _score(name, restorer, options) for name in options.sets or found}


def _score(name: str, restorer: Restorer, options: Options) -> dict[str, Any]:
    root, out = options.bench / name, options.out / name
    if name == sets.OMNIDOC:
        return score_pages(restorer, root, out, options.limit)
    real_ce = name == sets.REAL_CE
    low, high = sets.write_real_ce(root, out, options.limit) if real_ce else sets.photo_folders(root)
    names = [f"{Path(x).stem}.png" for x in sets.real_ce_names(root)] if real_ce else None
    inputs = [low / x for x in names] if names else sorted(low.glob("*.png"))
    method = restorer.method(out / "results", restorer.upscaler.upscale)
    make_results(method, inputs := inputs[: options.limit])
    metrics = _inside(TEXT_METRICS) if real_ce else {metric: METRICS[metric] for metric in PHOTO_METRICS}
    scores = score_results(method, inputs, high, out / "scores.json", metrics)
    figures = {metric: _mean([row[metric] for row in scores.values()]) for metric in metrics}
    if real_ce:
        figures |= _read_back(root, method.results, inputs)
    return {"pictures": len(inputs), **figures}


def _read_back(root: Path, results: Path, inputs: list[Path]) -> Figures:
    reader = load_reader()
    read_lines_of = (
        read_lines(read(results / path.name), sets.real_ce_lines(root, path.stem), reader) for path in inputs
    )
    pairs = [pair for lines in read_lines_of for pair in lines]
    return {"accuracy": _mean([float(a == b) for a, b in pairs]), NED: _mean([agreement(*pair) for pair in pairs])}


def score_pages(restorer: Restorer, root: Path, out: Path, limit: int | None) -> dict[str, Any]:
    """Score what the VAE alone makes of pages: OmniDoc-TokenBench asks what is lost on the way through the latents."""
    files = sets.omnidoc_files(root)[:limit]
    method = restorer.method(out / "results", partial(reconstruct, restorer.upscaler))
    make_results(method, files)
    reader, figures = load_page_reader(), dict[str, list[float]]()
    for path in files:
        truth, result = read(path), read(method.results / path.name)
        for metric in PAGE_METRICS:
            figures.setdefault(metric, []).append(METRICS[metric](result, truth))
        if written := reader(truth):  # as the set's own program, which passes by a page that it can't read
            figures.setdefault(NED, []).append(agreement(written, reader(result)))
    return {"pictures": len(files), **{name: _mean(values) for name, values in figures.items()}}


def reconstruct(upscaler: Upscaler, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Encode to the posterior's mean and decode."""
    return to_uint8(np.asarray(upscaler.vae.to_image(upscaler.vae.to_latent(from_uint8(image)[None])))[0])


def _inside(names: tuple[str, ...]) -> dict[str, Metric]:
    """Give metrics that leave the border out."""
    return {name: partial(_score_inside, METRICS[name]) for name in names}


def _score_inside(metric: Metric, image: np.ndarray, truth: np.ndarray) -> float:
    inner = np.s_[_BORDER:-_BORDER, _BORDER:-_BORDER]
    return metric(image[inner], truth[inner])


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def tables(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown: a table a set, ours first, then what others published."""
    return "\n\n".join(_table(name, of_set) for name, of_set in figures.items())


def _table(name: str, of_set: Mapping[str, Any]) -> str:
    columns = [column for column in of_set if column != "pictures"]
    rows = {f"here, {of_set['pictures']} pictures": of_set, **PUBLISHED.get(name, {})}
    cells = [
        [row, *(format(values[x], _FORMATS.get(x, ".4f")) if x in values else "" for x in columns)]
        for row, values in rows.items()
    ]
    return report.markdown([name, *columns], cells)


def main() -> None:
    """Measure, print the tables, and write them beside the results."""
    options = tyro.cli(Options, description=__doc__)
    figures = measure(options)
    print(tables(figures))
    report.write(options.out / "table", figures, tables(figures))


if __name__ == "__main__":
    report.run_as_command(main)
