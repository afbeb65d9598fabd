"""Scores of a folder of results, or of what a model makes of a folder of inputs, against the truth."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tvt_jax import __version__
from tvt_jax.evaluation.metrics import Metric, choose_metrics
from tvt_jax.evaluation.pairs import Pairs, find_pairs, read_rgb
from tvt_jax.evaluation.progress import Progress, model_fingerprint
from tvt_jax.evaluation.report import Run, write_report
from tvt_jax.evaluation.scores import Evaluation, format_table, read_evaluation, write_evaluation
from tvt_jax.hub import fetch
from tvt_jax.inference import load
from tvt_jax.inference.images import Picture, write_picture
from tvt_jax.inference.upscaler import PRETRAINED


def evaluate(
    pairs: Pairs,
    metrics: Mapping[str, Metric],
    progress: Progress,
    upscale: Callable[[np.ndarray], np.ndarray] | None = None,
    save: Path | None = None,
    failures: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score every pair, after `upscale` if there is one; write its results into the folder `save`.

    What `progress` knows is taken from there. A picture that can't be read, enlarged or scored is added to the known
    `failures`, and the others go on.
    """
    result = Evaluation(failures=dict(failures or {}))
    for name, (path, reference) in tqdm(pairs.items(), unit="image"):
        files = [path, reference, *([saved(save, path)] if save else [])]
        fingerprint = progress.fingerprint(*files)
        values, problems = progress.known(fingerprint), list[str]()
        if values is None:
            try:
                image, truth = _images(path, reference, upscale, save)
            except (ValueError, OSError) as error:
                result.failures[name] = str(error)
                continue
            values, problems = _score(image, truth, metrics)
            fingerprint = progress.fingerprint(*files)  # the saved result is another, or there now
            if not problems:
                progress.add(fingerprint, values)
        if values:
            result.images[name] = values
        if problems:
            result.failures[name] = "; ".join(problems)
        else:
            result.fingerprints[name] = fingerprint
    return result


def _images(
    path: Path, reference: Path, upscale: Callable[[np.ndarray], np.ndarray] | None, save: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    image, truth = read_rgb(path), read_rgb(reference)
    if upscale:
        image = upscale(image)
    if save:
        write_picture(saved(save, path), Picture(pixels=image))
    return image, truth


def saved(folder: Path, source: Path) -> Path:
    """Tell where the result for a picture is kept."""
    return folder / f"{source.stem}.png"


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


def run(
    *,
    lr: Path | None,
    sr: Path | None,
    hr: Path,
    model: Path | None,
    metrics: str,
    out: Path,
    save: Path | None,
    report: Path | None = None,
    against: Sequence[str] = (),
) -> int:
    """Do what eval.py does: score the folder `sr`, or `lr` enlarged by `model`, and return the exit status.

    Raises:
        FileNotFoundError: a folder, the model or a file of an earlier run is not there.
        ValueError: the arguments do not go together, a metric is unknown, or no picture has a partner.
    """
    source = sr or lr
    if source is None:
        raise ValueError("give --lr, a folder for the model to enlarge, or --sr, a folder of results")
    if sr and (model or save):
        raise ValueError("--model and --save go with --lr: the pictures of --sr are scored as they are")
    if against and not report:
        raise ValueError("--against goes with --report: it is what the report compares with")
    chosen, others = choose_metrics(metrics), [_read_run(text) for text in against]
    pairs, alone = find_pairs(source, hr)
    folder = fetch(model) if model else PRETRAINED
    depends = "" if sr else model_fingerprint(folder)
    progress = Progress(out, f"{__version__} {metrics} {depends}")
    # The report shows results, so it needs them somewhere.
    results = save or (progress.folder if report and lr else None)
    evaluation = evaluate(pairs, chosen, progress, None if sr else _load(folder), results, alone)
    write_evaluation(out, evaluation)
    if report:
        runs = [Run(sr.name if sr else "this run", evaluation), *others]
        layers = {name: _layers(path, truth, results) for name, (path, truth) in pairs.items()}
        write_report(report, f"{source.name} against {hr.name}", runs, layers)
    progress.finish()
    print(format_table(evaluation))
    for name, reason in evaluation.failures.items():
        print(f"error: {name}: {reason}", file=sys.stderr)
    return 1 if evaluation.failures else 0


def _load(model: Path) -> Callable[[np.ndarray], np.ndarray]:
    upscaler = load(model)
    if upscaler.unet is None:
        raise ValueError(f"{model} has a VAE but no UNet: it can't upscale")
    return upscaler.upscale


def _read_run(text: str) -> Run:
    name, found, file = text.partition("=")
    if not found:
        raise ValueError(f"--against {text} is not of the form NAME=metrics.json")
    return Run(name, read_evaluation(Path(file)))


def _layers(path: Path, truth: Path, results: Path | None) -> dict[str, Path]:
    """Choose the pictures that the report lays over each other."""
    shown = {"input": path, "result": saved(results, path)} if results else {"result": path}
    return {**shown, "truth": truth}
