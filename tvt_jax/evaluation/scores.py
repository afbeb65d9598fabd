"""What was measured: values of each image, their means, and the file that holds both."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tvt_jax.files import write_whole


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
        fingerprints: image name -> what changes with anything that its values depend on; only of those without failure.
        together: metric name -> value of all images as one set, such as FID, which no single image has.
    """

    images: dict[str, dict[str, float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    together: dict[str, float] = field(default_factory=dict)

    def summaries(self) -> dict[str, Summary]:
        """Return a summary for each metric that has a value."""
        names = dict.fromkeys(name for values in self.images.values() for name in values)
        columns = {name: [v[name] for v in self.images.values() if name in v] for name in names}
        return {name: summarise(np.array(values)) for name, values in columns.items()}


def summarise(values: Float[np.ndarray, " n"], resamples: int = 2000) -> Summary:
    """Return mean and bootstrap interval, drawn from a fixed seed: images, not pixels, are the sample."""
    drawn = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), (2.5, 97.5))
    return Summary(mean=float(values.mean()), low=float(low), high=float(high), count=len(values))


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write means, values of each image and failures as JSON, whole or not at all."""
    means = {name: asdict(summary) for name, summary in evaluation.summaries().items()}
    content = {"mean": means, **asdict(evaluation)}
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read what `write_evaluation` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        more = {name: content.get(name, {}) for name in ("fingerprints", "together")}
        return Evaluation(images=content["images"], failures=content["failures"], **more)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file that eval.py wrote") from error


def format_table(evaluation: Evaluation) -> str:
    """Make a Markdown table of the means."""
    rows = [
        f"| {name} | {summary.mean:.4f} | {summary.low:.4f} to {summary.high:.4f} | {summary.count} |"
        for name, summary in evaluation.summaries().items()
    ]
    rows += [f"| {name} | {value:.4f} | | {len(evaluation.images)} |" for name, value in evaluation.together.items()]
    return "\n".join(["| metric | mean | 95 % interval | images |", "|---|---|---|---|", *rows])
