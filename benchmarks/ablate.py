"""What each choice of a training run is worth: configurations times seeds, and one table of differences to the base.

    python -m benchmarks.ablate configs/ablations/adapt*.py --base configs/ablations/adapt.py --out runs/ablations/adapt
    python -m benchmarks.ablate ... --jobs 8 --config.steps=1000        eight at a time, each on a device of its own
    python -m benchmarks.ablate ... --part 0/4                          on the first of four hosts

Every run is a train.py of its own in a workdir of its own, so the same command goes on where it was cut off; a run that
is done is not started again. The figures are those of the run's last evaluation. One that ends with an error is left
out of the means, and named. `--config.FIELD=...` changes a field of all configurations.
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import Positional

from benchmarks import report
from benchmarks.ablation_tables import Figures, latex, plot, table
from benchmarks.processes import Task, run_all
from tvt_jax.data.shard import parse_shard
from tvt_jax.train.config import differences, load_config, to_json

TRAIN = Path(__file__).parents[1] / "train.py"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Configurations side by side.

    Attributes:
        configs: files that train.py takes.
        base: the one that the others are compared with; the first if left out.
        seeds: each configuration is trained with the seeds 0, 1, and so on, so many of them.
        jobs: runs at a time; of several, each sees one GPU or TPU chip.
        part: I/N: train each N-th run from the I-th on, counted from 0; other hosts take the others.
        out: where the workdirs and the tables are kept; all hosts see it.
    """

    configs: Positional[tuple[Path, ...]]
    base: Path | None = None
    seeds: int = 3
    jobs: int = 1
    part: str = "0/1"
    out: Path


@dataclass(frozen=True)
class Run:
    """A configuration with a seed.

    Attributes:
        config: the file.
        seed: of the run.
        workdir: of the run.
        changes: what the command line changes in the configuration.
    """

    config: Path
    seed: int
    workdir: Path
    changes: tuple[str, ...]

    @cached_property
    def steps(self) -> int:
        """How many it takes."""
        return load_config(self.config, self.changes).steps

    def check(self) -> None:
        """Raise ValueError if the configuration is wrong, has no evaluation, or is not its workdir's."""
        config = load_config(self.config, self.changes)
        if config.evaluation is None:
            raise ValueError(f"{self.config} has no evaluation, which the table is made of")
        started = self.workdir / "config.json"
        before = json.loads(started.read_text()) if started.is_file() else None
        if before is not None and (changed := differences(before, to_json(config))):
            raise ValueError("{} is of another configuration:\n  {}".format(self.workdir, "\n  ".join(changed)))

    def task(self) -> Task:
        """Give the command that trains it."""
        words = (sys.executable, TRAIN, f"--config={self.config}", f"--workdir={self.workdir}", *self.changes)
        return Task(f"{self.config.stem}, seed {self.seed}", tuple(map(str, words)))


def plan(options: Options, changes: Sequence[str]) -> dict[str, list[Run]]:
    """List the runs of each configuration, the base first, a seed after the other.

    Raises:
        ValueError: two configurations have the same name, or one is wrong or of another workdir.
    """
    paths = dict.fromkeys([options.base or options.configs[0], *options.configs])
    configs = {path.stem: path for path in paths}
    if len(configs) < len(paths):
        raise ValueError("two configurations have the same file name")
    runs = {
        name: [
            Run(path, seed, options.out / name / f"seed_{seed}", (*changes, f"--config.seed={seed}"))
            for seed in range(options.seeds)
        ]
        for name, path in configs.items()
    }
    for each in runs.values():
        for run in each:
            run.check()
    return runs


def measure(options: Options, changes: Sequence[str] = ()) -> tuple[Figures, list[str]]:
    """Train what is not trained yet, every configuration with the first seed first; return figures and failures.

    Raises:
        ValueError: see `plan`; or no run of the base gave figures.
    """
    runs = plan(options, changes)
    part = _part(options.part)
    in_order = [run for together in zip(*runs.values(), strict=True) for run in together]
    mine = [run for run in in_order[part] if last_evaluation(run.workdir)[0] < run.steps]
    failures = run_all([run.task() for run in mine], options.jobs)
    figures = {name: _figures(each) for name, each in runs.items()}
    if not next(iter(figures.values())):
        reason = f": {failures[0]}" if failures else ", since other hosts train them"
        raise ValueError(f"no run of {next(iter(figures))} has ended well{reason}")
    return figures, failures


def _part(text: str) -> slice:
    try:
        return parse_shard(text)
    except ValueError as error:
        raise ValueError(f"--part={text} is not of the form I/N, with I from 0 to N - 1") from error


def _figures(runs: Sequence[Run]) -> dict[str, list[float | None]]:
    """Give the metrics of the runs that are done, seed by seed; None for the others."""
    ends = [metrics if step >= run.steps else {} for run in runs for step, metrics in [last_evaluation(run.workdir)]]
    names = {name: None for end in ends for name in end}
    return {name: [end.get(name) for end in ends] for name in names}


def last_evaluation(workdir: Path) -> tuple[int, dict[str, float]]:
    """Return the step and the metrics of the last evaluation, the seconds trained among them; step -1 without one."""
    log = workdir / "metrics.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []  # the last may be cut off
    entries = [json.loads(line) for line in lines]
    evaluations = [entry for entry in entries if entry["kind"] == "evaluate"]
    entry: dict[str, Any] = evaluations[-1] if evaluations else {"step": -1}
    metrics = {name: value for name, value in entry.items() if name not in ("kind", "step", "machine")}
    return entry["step"], {name: value for name, value in metrics.items() if math.isfinite(value)}


def main() -> None:
    """Train, print the table, and write it beside the workdirs."""
    options, changes = tyro.cli(Options, description=__doc__, return_unknown_args=True)
    figures, failures = measure(options, changes)
    text = "\n\n".join([table(figures), *(f"Left out: {failure}" for failure in failures)])
    print(text)
    report.write(options.out / "ablations", figures, text)
    (options.out / "ablations.tex").write_text(latex(figures) + "\n")
    plot(figures, options.out / "ablations.png")


if __name__ == "__main__":
    report.run_as_command(main)
