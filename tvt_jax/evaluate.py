"""Scores a folder of results, or what a model makes of a folder of inputs, against the truth."""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from tvt_jax.inference import load
from tvt_jax.inference.images import READABLE, Picture, read_picture, write_picture
from tvt_jax.metrics.dists import dists
from tvt_jax.metrics.lpips import lpips
from tvt_jax.metrics.niqe import niqe
from tvt_jax.metrics.psnr import psnr_y
from tvt_jax.metrics.ssim import ssim_y

Metric = Callable[[np.ndarray, np.ndarray], float]
Pairs = dict[str, tuple[Path, Path]]

METRICS: dict[str, Metric] = {
    "psnr": psnr_y,
    "ssim": ssim_y,
    "lpips": partial(lpips, net="alex"),
    "lpips-vgg": partial(lpips, net="vgg"),
    "dists": dists,
    "niqe": lambda image, reference: niqe(image),
}
DEFAULT_METRICS = "psnr,ssim,lpips,dists,niqe"

_ROLE = re.compile(r"[_-](?:LR|SR|HR|GT)\d*$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean of a metric over `count` images, and the 95 % interval of that mean over resampled sets of images."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured.

    Attributes:
        images: image name -> metric name -> value.
        failures: image name -> why some or all of its values are missing.
    """

    images: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def summaries(self) -> dict[str, Summary]:
        """Returns a summary for each metric that has a value."""
        names = dict.fromkeys(name for values in self.images.values() for name in values)
        columns = {name: [v[name] for v in self.images.values() if name in v] for name in names}
        return {name: summarise(np.array(values)) for name, values in columns.items()}


def summarise(values: Float[np.ndarray, " n"], resamples: int = 2000) -> Summary:
    """Returns mean and bootstrap interval, drawn from a fixed seed: images, not pixels, are the sample."""
    drawn = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Summary(mean=float(values.mean()), low=float(low), high=float(high), count=len(values))


def find_pairs(images: Path, references: Path) -> tuple[Pairs, dict[str, str]]:
    """Matches the pictures of two folders by file name without ending and without a last _LR4, _SR, _HR or _GT.

    Returns (image, reference) by name, and by name what has no partner.
    """
    found, truths = _pictures(images), _pictures(references)
    if not found.keys() & truths.keys():
        raise ValueError(f"no picture in {images} has the name of one in {references}")
    alone = dict.fromkeys(sorted(found.keys() - truths.keys()), f"has no partner in {references}")
    alone |= dict.fromkeys(sorted(truths.keys() - found.keys()), f"has no partner in {images}")
    return {name: (found[name], truths[name]) for name in sorted(found.keys() & truths.keys())}, alone


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    pictures: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in READABLE and not path.name.startswith("."):
            name = _ROLE.sub("", path.stem)
            if name in pictures:
                raise ValueError(f"{pictures[name]} and {path} have the same name '{name}': keep one of them")
            pictures[name] = path
    return pictures


def choose_metrics(names: str) -> dict[str, Metric]:
    """Looks up metrics by their names, joined by commas."""
    unknown = [name for name in names.split(",") if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metric '{unknown[0]}', choose from {','.join(METRICS)}")
    return {name: METRICS[name] for name in names.split(",")}


def evaluate(
    pairs: Pairs,
    metrics: Mapping[str, Metric],
    upscale: Callable[[np.ndarray], np.ndarray] | None = None,
    save: Path | None = None,
    failures: Mapping[str, str] | None = None,
) -> Evaluation:
    """Scores every pair, after `upscale` if there is one; its results are written into the folder `save`.

    A picture that can't be read, enlarged or scored is added to the known `failures`, and the others go on.
    """
    result = Evaluation(failures=dict(failures or {}))
    for name, (path, reference) in tqdm(pairs.items(), unit="image"):
        try:
            image, truth = _read_rgb(path), _read_rgb(reference)
            if upscale:
                image = upscale(image)
            if save:
                write_picture(save / f"{path.stem}.png", Picture(pixels=image))
        except (ValueError, OSError) as error:
            result.failures[name] = str(error)
            continue
        values, problems = _score(image, truth, metrics)
        if values:
            result.images[name] = values
        if problems:
            result.failures[name] = "; ".join(problems)
    return result


def _score(image: np.ndarray, truth: np.ndarray, metrics: Mapping[str, Metric]) -> tuple[dict[str, float], list[str]]:
    if image.shape != truth.shape:
        return {}, [f"the result is {_size(image)} pixels and the truth {_size(truth)}: they must be equal"]
    values, problems = {}, []
    for name, metric in metrics.items():
        try:
            values[name] = metric(image, truth)
        except ValueError as error:
            problems.append(str(error))
    return values, problems


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _read_rgb(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Grey is repeated and alpha left out: metrics see what a viewer without transparency shows."""
    pixels = read_picture(path).pixels
    return pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Writes means, values of each image and failures as JSON, whole or not at all."""
    means = {name: asdict(summary) for name, summary in evaluation.summaries().items()}
    content = {"mean": means, "images": evaluation.images, "failures": evaluation.failures}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial_path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial_path, path)


def format_table(evaluation: Evaluation) -> str:
    """Returns the means as a Markdown table."""
    rows = [
        f"| {name} | {summary.mean:.4f} | {summary.low:.4f} to {summary.high:.4f} | {summary.count} |"
        for name, summary in evaluation.summaries().items()
    ]
    return "\n".join(["| metric | mean | 95 % interval | images |", "|---|---|---|---|", *rows])


def run(
    *, lr: Path | None, sr: Path | None, hr: Path, model: Path | None, metrics: str, out: Path, save: Path | None
) -> int:
    """What eval.py does: scores the folder `sr`, or `lr` enlarged by `model`, and returns the exit status."""
    source = sr or lr
    if source is None:
        raise ValueError("give --lr, a folder for the model to enlarge, or --sr, a folder of results")
    if sr and (model or save):
        raise ValueError("--model and --save go with --lr: the pictures of --sr are scored as they are")
    chosen = choose_metrics(metrics)
    pairs, alone = find_pairs(source, hr)
    evaluation = evaluate(pairs, chosen, None if sr else load(model).upscale, save, alone)
    write_evaluation(out, evaluation)
    print(format_table(evaluation))
    for name, reason in evaluation.failures.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return 1 if evaluation.failures else 0
