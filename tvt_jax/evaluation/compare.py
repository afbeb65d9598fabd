"""Several runs side by side: over the pictures that all of them have, and with differences paired by picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tvt_jax.evaluation.scores import Evaluation, Summary, format_interval, summarise
from tvt_jax.metrics import LESS_IS_BETTER, MORE_IS_BETTER

_ENOUGH = 6  # images; with five, all differences have one sign by chance alone in 6 % of the cases


@dataclass(frozen=True)
class Run:
    """A method's scores, and what a comparison calls it."""

    name: str
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A metric over the pictures that every run that has it has a value of.

    Attributes:
        means: of each run over these pictures, None where it lacks the metric or no picture is common.
        differences: each run less the first that has the metric, picture by picture; None for that one.
        best: whether a run is the best, or can't be told from the best: the interval of their difference holds 0.
            None of them where too few pictures are common, or where it is not known which way is better.
    """

    means: list[Summary | None]
    differences: list[Summary | None]
    best: list[bool]


def compare(runs: Sequence[Run], names: Sequence[str] | None = None) -> dict[str, Comparison]:
    """Compare runs by each metric that one of them has, over their common pictures, of `names` if given."""
    metrics = dict.fromkeys(m for run in runs for values in run.evaluation.images.values() for m in values)
    usable = common_pictures(runs) if names is None else common_pictures(runs) & set(names)
    return {metric: _compare([_column(run, metric) for run in runs], usable, metric) for metric in metrics}


def common_pictures(runs: Sequence[Run]) -> set[str]:
    """Return the names that do not stand for different truths in different runs."""
    truths = [run.evaluation.truths for run in runs]
    names = {name for run in runs for name in run.evaluation.images}
    return {name for name in names if len({known[name] for known in truths if name in known}) <= 1}


def other_truths(runs: Sequence[Run]) -> list[str]:
    """Return the names that are left out of a comparison since runs compared them with different truths."""
    return sorted({name for run in runs for name in run.evaluation.images} - common_pictures(runs))


def _column(run: Run, metric: str) -> dict[str, float]:
    return {name: values[metric] for name, values in run.evaluation.images.items() if metric in values}


def _compare(columns: Sequence[Mapping[str, float]], usable: set[str], metric: str) -> Comparison:
    having = [column for column in columns if column]
    common = sorted(usable.intersection(*having))
    arrays = [np.array([column[name] for name in common]) if column and common else None for column in columns]
    base = next((array for array in arrays if array is not None), None)
    return Comparison(
        means=[None if array is None else summarise(array) for array in arrays],
        differences=[
            None if base is None or array is None or array is base else summarise(array - base) for array in arrays
        ],
        best=_best(arrays, metric),
    )


def _best(arrays: Sequence[np.ndarray | None], metric: str) -> list[bool]:
    sign = 1 if metric in MORE_IS_BETTER else -1 if metric in LESS_IS_BETTER else 0
    found = [array for array in arrays if array is not None and len(array) >= _ENOUGH]
    if sign == 0 or len(found) < 2:
        return [False] * len(arrays)
    best = max(found, key=lambda array: sign * array.mean())
    return [array is not None and (array is best or _holds_0(summarise(array - best))) for array in arrays]


def _holds_0(difference: Summary) -> bool:
    return difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high


def format_comparison(runs: Sequence[Run]) -> str:
    """Make a Markdown table: a row for each metric and run, differences to the first run that has the metric."""
    rows = []
    for metric, compared in compare(runs).items():
        if not any(compared.means):
            rows.append(f"| {metric} | | no common image | | | 0 |")
        for run, mean, difference in zip(runs, compared.means, compared.differences, strict=True):
            if mean is not None:
                more = "" if difference is None else f"{difference.mean:+.4f}"
                interval = "" if difference is None else format_interval(difference, "+")
                rows.append(f"| {metric} | {run.name} | {mean.mean:.4f} | {more} | {interval} | {mean.count} |")
    head = "| metric | run | mean | difference | 95 % interval | common images |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])
