"""What was measured: values of each image, their means, and the file that holds both."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tvt_jax.files import write_whole

Values = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean of a metric over `count` images, and the 95 % interval of that mean over resampled sets of images.

    A single image has no interval.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured.

    Attributes:
        images: image name -> metric name -> value.
        failures: image name -> why some or all of its values are missing.
        warnings: image name -> why its values need care.
        fingerprints: image name -> what changes with anything that its values depend on; only of those without failure.
        truths: image name -> what changes with the picture that it was compared with, and how much of that counts.
        files: image name -> where its result is, seen from the file that holds the evaluation.
        contents: image name -> what changes with the content of that file.
        seconds: image name -> how long the model took, the reading and writing of files included.
        together: metric name -> value of all images as one set, such as FID, which no single image has.
    """

    images: dict[str, Values] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    truths: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict, compare=False)
    contents: dict[str, str] = field(default_factory=dict, compare=False)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    together: Values = field(default_factory=dict)

    def summaries(self) -> dict[str, Summary]:
        """Return a summary for each metric that has a value."""
        names = dict.fromkeys(name for values in self.images.values() for name in values)
        columns = {name: [v[name] for v in self.images.values() if name in v] for name in names}
        return {name: summarise(np.array(values)) for name, values in columns.items()}


def summarise(values: Float[np.ndarray, " n"], resamples: int = 2000) -> Summary:
    """Return mean and bootstrap interval, drawn from a fixed seed: images, not pixels, are the sample."""
    count, mean = len(values), float(values.mean())
    if count == 1:
        return Summary(mean=mean, low=None, high=None, count=count)
    drawn = np.random.default_rng(0).integers(count, size=(resamples, count))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Summary(mean=mean, low=float(low), high=float(high), count=count)


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write means, values of each image and failures as JSON, whole or not at all."""
    means = {name: asdict(summary) for name, summary in evaluation.summaries().items()}
    content = {"mean": means, **asdict(evaluation)}
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read what `write_evaluation` wrote; a value that is no finite number becomes a failure, by image or metric.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        words = {name: _only(str, content.get(name, {})) for name in _WORDS}
        seconds, together = _only(int | float, content.get("seconds", {})), dict(content.get("together", {}))
        images, failures = dict[str, Values](), _only(str, content["failures"])
        for name, values in content["images"].items():
            images[name] = {metric: float(value) for metric, value in values.items() if _is_number(value)}
            if missing := sorted(values.keys() - images[name].keys()):
                failures[name] = f"{', '.join(missing)} is not a number in {path.name}"
        for name in [name for name, value in together.items() if not _is_number(value)]:
            failures[name] = f"{together.pop(name)!r} is not a number in {path.name}"
        return Evaluation(images=images, failures=failures, seconds=seconds, together=together, **words)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a file that eval.py wrote") from error


_WORDS = ("warnings", "fingerprints", "truths", "files", "contents")


def _only(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    if odd := [value for value in values.values() if not isinstance(value, kind)]:
        raise TypeError(f"{odd[0]!r} is no {kind}")
    return dict(values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def format_table(evaluation: Evaluation) -> str:
    """Make a Markdown table of the means."""
    rows = [
        f"| {name} | {summary.mean:.4f} | {format_interval(summary)} | {summary.count} |"
        for name, summary in evaluation.summaries().items()
    ]
    rows += [f"| {name} | {value:.4f} | | {len(evaluation.images)} |" for name, value in evaluation.together.items()]
    return "\n".join(["| metric | mean | 95 % interval | images |", "|---|---|---|---|", *rows])


def format_interval(summary: Summary, sign: str = "") -> str:
    """Write "low to high", nothing where there is no interval; a `sign` of "+" writes the sign always."""
    if summary.low is None or summary.high is None:
        return ""
    return f"{summary.low:{sign}.4f} to {summary.high:{sign}.4f}"
