"""Scores of a folder of results, or of what a model makes of a folder of inputs, against the truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import isfinite
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tvt_jax.evaluation.metrics import Metric, doubts
from tvt_jax.evaluation.pairs import Pairs
from tvt_jax.evaluation.pictures import compare_files, crop_border, read_exact
from tvt_jax.evaluation.progress import Progress, Scores
from tvt_jax.evaluation.scores import Evaluation, Values
from tvt_jax.fingerprint import file_hash


@dataclass(frozen=True, kw_only=True)
class Results:
    """Where results come from that are not there yet.

    Attributes:
        places: image name -> file of its result.
        make: writes the result of an input, and returns the seconds that it took.
        keep: whether the files stay.
    """

    places: Mapping[str, Path]
    make: Callable[[Path, Path], float]
    keep: bool


def evaluate(
    pairs: Pairs,
    metrics: Mapping[str, Metric],
    progress: Progress,
    results: Results | None = None,
    *,
    border: int = 0,
    failures: Mapping[str, str] | None = None,
) -> Evaluation:
    """Score every pair, or where there are `results` to make, what is made of its first file.

    What `progress` knows is taken from there. A picture that can't be read, enlarged or scored is added to the known
    `failures`, and the others go on.
    """
    evaluation = Evaluation(failures=dict(failures or {}))
    for name, pair in tqdm(pairs.items(), unit="image"):
        try:
            evaluation.truths[name] = sha256(file_hash(pair[1]) + str(border).encode()).hexdigest()[:32]
            _evaluate_one(evaluation, name, pair, metrics, progress, results, border)
        # RuntimeError is how XLA says that memory ran out.
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            evaluation.failures[name] = _one_line(error)
    return evaluation


def _evaluate_one(
    evaluation: Evaluation,
    name: str,
    pair: tuple[Path, Path],
    metrics: Mapping[str, Metric],
    progress: Progress,
    results: Results | None,
    border: int,
) -> None:
    path, reference = pair
    result = results.places[name] if results else path
    files = [path, reference, *([result] if results and results.keep else [])]
    scores, problems = progress.known(fingerprint := progress.fingerprint(*files)), list[str]()
    if scores is None:
        seconds = results.make(path, result) if results else None
        image, truth = _read(result, reference, border)
        values, problems = _score(image, truth, metrics)
        found = [*doubts(image, truth, values), *compare_files(result, reference)]
        scores = Scores(values=values, warnings="; ".join(found), seconds=seconds)
        fingerprint = progress.fingerprint(*files)  # the kept result is another, or there now
        if not problems:
            progress.add(fingerprint, scores)
        if results and not results.keep:
            result.unlink()
    _add(evaluation, name, scores)
    if problems:
        evaluation.failures[name] = "; ".join(problems)
    else:
        evaluation.fingerprints[name] = fingerprint


def _add(evaluation: Evaluation, name: str, scores: Scores) -> None:
    if scores.values:
        evaluation.images[name] = scores.values
    if scores.warnings:
        evaluation.warnings[name] = scores.warnings
    if scores.seconds is not None:
        evaluation.seconds[name] = scores.seconds


def _read(result: Path, reference: Path, border: int) -> tuple[np.ndarray, np.ndarray]:
    image, truth = read_exact(result), read_exact(reference)
    if image.shape != truth.shape:
        raise ValueError(f"the result is {_size(image)} pixels and the truth {_size(truth)}: they must be equal")
    return crop_border(image, border), crop_border(truth, border)


def _score(image: np.ndarray, truth: np.ndarray, metrics: Mapping[str, Metric]) -> tuple[Values, list[str]]:
    values, problems = {}, []
    for name, metric in metrics.items():
        try:
            values[name] = metric(image, truth)
        except (ValueError, RuntimeError, MemoryError) as error:
            problems.append(f"{name}: {_one_line(error)}")
            continue
        if not isfinite(values[name]):
            del values[name]
            problems.append(f"{name} is not a number")
    return values, problems


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
