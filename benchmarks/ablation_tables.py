"""Figures of ablations as tables and plots: means over seeds, and paired differences to the base."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from benchmarks import report

Figures = dict[str, dict[str, list[float | None]]]  # configuration -> metric -> value of each seed; None: no figure
_ONE_SEED = 4  # digits that are kept where no spread is known


def table(figures: Figures) -> str:
    """Make a Markdown table of means over the seeds, with the differences to the first row, seed by seed."""
    metrics = in_common(figures)
    header = ["", *(title for metric in metrics for title in (metric, "to the base"))]
    return report.markdown(header, [[name, *cells] for name, cells in _rows(figures, metrics)])


def latex(figures: Figures) -> str:
    """Make the same a LaTeX table, for booktabs."""
    metrics = in_common(figures)
    titles = " & ".join(f"{_escaped(metric)} & to the base" for metric in metrics)
    lines = [rf"\begin{{tabular}}{{l{'rr' * len(metrics)}}}", r"\toprule", rf" & {titles} \\", r"\midrule"]
    for name, cells in _rows(figures, metrics):
        lines.append(" & ".join([_escaped(name), *map(_escaped, cells)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def plot(figures: Figures, path: Path) -> None:
    """Draw each metric's differences to the base with their intervals, and each seed's as a dot; say if it can't."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: pip install 'tvt-jax[bench]' draws one")
        return
    base, *others = figures
    metrics = in_common(figures)
    figure = Figure(figsize=(3.2 * max(len(metrics), 1), 1.0 + 0.35 * len(others)), layout="constrained")
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), place + 1)
        axes.axvline(0, color="0.7", linewidth=1)
        for row, name in enumerate(others):
            more = paired(figures[name].get(metric, []), figures[base][metric])
            axes.plot(more, [row] * len(more), ".", color="0.6")
            if len(more):
                axes.errorbar(more.mean(), row, xerr=half_interval(more), fmt="o", color="C0", capsize=3)
        axes.set(yticks=range(len(others)), yticklabels=others if not place else [""] * len(others))
        axes.set(title=metric, ylim=(len(others) - 0.5, -0.5), xlabel=f"to {base}")
    figure.savefig(path, dpi=150)


def in_common(figures: Figures) -> list[str]:
    """List the metrics of the base that all others have, but for those without any figure: stages measure their own."""
    base, *others = figures.values()
    return [metric for metric in base if all(metric in row for row in others if row)]


def _rows(figures: Figures, metrics: Sequence[str]) -> list[tuple[str, list[str]]]:
    base = next(iter(figures.values()))
    seeds = max(len(values) for row in figures.values() for values in row.values())
    rows = []
    for name, row in figures.items():
        done = max((sum(value is not None for value in values) for values in row.values()), default=0)
        title = name if done == seeds else f"{name} ({done} of {seeds} seeds)"
        rows.append((title, [cell for m in metrics for cell in _cells(row.get(m, []), base[m], row is base)]))
    return rows


def _cells(values: Sequence[float | None], base: Sequence[float | None], is_base: bool) -> tuple[str, str]:
    there = np.array([value for value in values if value is not None])
    if not len(there):
        return "–", "–"
    mean = f"{there.mean():.{digits(there)}f}"
    return mean, "" if is_base else difference(values, base)


def difference(values: Sequence[float | None], base: Sequence[float | None]) -> str:
    """Format the mean difference to the base with the 95 % interval of its paired t-test; one seed has none."""
    more = paired(values, base)
    if not len(more):
        return "–"
    places, half = digits(more), half_interval(more)
    mean = f"{more.mean():+.{places}f}"
    return (
        f"{mean} ({more.mean() - half:+.{places}f} to {more.mean() + half:+.{places}f})" if half is not None else mean
    )


def paired(values: Sequence[float | None], base: Sequence[float | None]) -> np.ndarray:
    """Subtract seed by seed, where both have a figure."""
    pairs = zip(values, base, strict=False)
    return np.array([value - other for value, other in pairs if value is not None and other is not None])


def half_interval(more: np.ndarray) -> float | None:
    """Give half of the 95 % interval of the mean (Student's t); None of one value."""
    if len(more) < 2:
        return None
    return float(stdtrit(len(more) - 1, 0.975) * more.std(ddof=1) / np.sqrt(len(more)))


def digits(values: np.ndarray) -> int:
    """Tell how many decimals mean something: those to the second digit of half the mean's 95 % interval."""
    size = half_interval(values) or abs(values.mean()) * 10.0 ** (2 - _ONE_SEED)
    return min(max(1 - math.floor(math.log10(size)), 0), 6) if size else _ONE_SEED


def _escaped(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("–", "--")
