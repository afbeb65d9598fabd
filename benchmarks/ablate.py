"""What each choice of a training run is worth: configurations times seeds, and one table of differences to the base.

    python -m benchmarks.ablate configs/ablations/adapt*.py --base configs/ablations/adapt.py --out runs/ablations/adapt

Every run is a train.py of its own in a workdir of its own, so the same command goes on where it was cut off; a run that
is done is not started again. The figures are those of the run's last evaluation.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from scipy.special import stdtrit
from tyro.conf import Positional

from benchmarks import report
from tvt_jax.train.config import differences, load_config, to_json

TRAIN = Path(__file__).parents[1] / "train.py"
Figures = dict[str, dict[str, list[float]]]  # configuration -> metric -> value of each seed


@dataclass(frozen=True, kw_only=True)
class Options:
    """Configurations side by side.

    Attributes:
        configs: files that train.py takes.
        base: the one that the others are compared with; the first if left out.
        seeds: each configuration is trained with the seeds 0, 1, and so on, so many of them.
        out: where the workdirs and the table are kept.
    """

    configs: Positional[tuple[Path, ...]]
    base: Path | None = None
    seeds: int = 3
    out: Path


def measure(options: Options) -> Figures:
    """Train what is not trained yet, every configuration with the first seed first, and return all figures.

    Raises:
        ValueError: two configurations have the same name, or a run failed, logs no evaluation, or is of another
            configuration than its workdir.
    """
    paths = dict.fromkeys([options.base or options.configs[0], *options.configs])
    configs = {path.stem: path for path in paths}
    if len(configs) < len(paths):
        raise ValueError("two configurations have the same file name")
    figures: Figures = {name: {} for name in configs}
    for seed in range(options.seeds):
        for name, path in configs.items():
            for metric, value in train(path, seed, options.out / name / f"seed_{seed}").items():
                figures[name].setdefault(metric, []).append(value)
    return figures


def train(config: Path, seed: int, workdir: Path) -> dict[str, float]:
    """Train a configuration with a seed, if that is not done, and return its last evaluation."""
    change = f"--config.seed={seed}"
    wanted = to_json(load_config(config, [change]))
    started = workdir / "config.json"
    if started.is_file() and (changed := differences(json.loads(started.read_text()), wanted)):
        raise ValueError("{} is of another configuration:\n  {}".format(workdir, "\n  ".join(changed)))
    if last_evaluation(workdir)[0] < wanted["steps"]:
        done = subprocess.run([sys.executable, TRAIN, f"--config={config}", f"--workdir={workdir}", change])
        if done.returncode:
            raise ValueError(f"{config} with seed {seed} ended with exit status {done.returncode}")
    step, metrics = last_evaluation(workdir)
    if step < wanted["steps"]:
        raise ValueError(f"{workdir} logs no evaluation at its end: {config} has none")
    return metrics


def last_evaluation(workdir: Path) -> tuple[int, dict[str, float]]:
    """Return the step and the metrics of the last evaluation, the seconds trained among them; step -1 without one."""
    log = workdir / "metrics.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []  # the last may be cut off
    entries = [json.loads(line) for line in lines]
    evaluations = [entry for entry in entries if entry["kind"] == "evaluate"]
    entry: dict[str, Any] = evaluations[-1] if evaluations else {"step": -1}
    return entry["step"], {name: value for name, value in entry.items() if name not in ("kind", "step", "machine")}


def table(figures: Figures) -> str:
    """Make a table of means over the seeds, with the differences to the first row, seed by seed."""
    base, *_ = figures.values()
    # Stages differ in what they measure: what all have in common can be compared.
    metrics = [metric for metric in base if all(metric in row for row in figures.values())]
    header = ["", *(title for metric in metrics for title in (metric, "to the base"))]
    rows = [
        [name, *(cell for metric in metrics for cell in _cells(row[metric], None if row is base else base[metric]))]
        for name, row in figures.items()
    ]
    return report.markdown(header, rows)


def _cells(values: Sequence[float], base: Sequence[float] | None) -> tuple[str, str]:
    mean = f"{np.mean(values):.{_digits(values)}f}"
    return mean, "" if base is None else difference(values, base)


def difference(values: Sequence[float], base: Sequence[float]) -> str:
    """Format the mean difference to the base with the 95 % interval of its paired t-test; one seed has none."""
    more, digits = np.subtract(values, base), _digits(values)
    mean = f"{more.mean():+.{digits}f}"
    if len(more) == 1:
        return mean
    half = float(stdtrit(len(more) - 1, 0.975)) * more.std(ddof=1) / np.sqrt(len(more))
    return f"{mean} ({more.mean() - half:+.{digits}f} to {more.mean() + half:+.{digits}f})"


def _digits(values: Sequence[float]) -> int:
    return 1 if abs(np.mean(values)) >= 100 else 4


def main() -> None:
    """Train, print the table, and write it beside the workdirs."""
    options = tyro.cli(Options)
    figures = measure(options)
    print(table(figures))
    report.write(options.out / "ablations", figures, table(figures))


if __name__ == "__main__":
    report.run_as_command(main)
