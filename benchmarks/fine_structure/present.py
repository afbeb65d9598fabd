"""The figures as tables in Markdown and as one picture of plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.fine_structure import charts, errors, spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESOLVED = 0.2  # of the contrast
PARTS = {"energy": ("energy over the truth's, dB", "+.1f"), "correlation": ("correlation", ".3f")}  # of the texture
MEASURE_TITLES = {"capped": "CER, capped", "plain": "CER, plain", "recalled": "recalled"}
_COLOURS = {"HR": "black", "LR": "tab:grey", "bicubic": "C0"}  # of those that are always there


def finest(figures: Mapping[str, float]) -> int | None:
    """Find the shortest period that keeps `RESOLVED` of its contrast, as all longer ones do; None if none does."""
    found = None
    for period in sorted(charts.PERIODS, reverse=True):
        if figures[f"{period} px"] < RESOLVED:
            break
        found = period
    return found


def tables(figures: Mapping[str, Any]) -> str:
    """Make all tables in Markdown."""
    parts = [
        report.markdown(
            (f"Texture, {title}", *_bands()),
            [(name, *(f"{value:{form}}" for value in row[part])) for name, row in figures["texture"].items()],
        )
        for part, (title, form) in PARTS.items()
    ]
    head = ("Charts", "edge, px", *(f"lines of {period} px" for period in charts.PERIODS), "finest, px")
    rows = [
        (name, *(f"{value:.2f}" for value in row.values()), str(finest(row) or "none"))
        for name, row in figures["charts"].items()
    ]
    parts.append(report.markdown(head, rows))
    return "\n\n".join([*parts, *(_text_table(title, measured) for title, measured in figures["text"].items())])


def _bands() -> list[str]:
    return [f"1/{round(1 / low)} to 1/{round(1 / high)}" for low, high in spectrum.BANDS]


def _text_table(title: str, measured: Mapping[str, Any]) -> str:
    """Make a table by method and column of the capped rate, and one of what all three measures say beside bicubic."""
    methods = measured["methods"]
    columns = list(methods["HR"]["capped"]["rates"])
    by_column = report.markdown(
        (f"{title}, CER % capped", *columns),
        [(name, *(_percent(rate) for rate in row["capped"]["rates"].values())) for name, row in methods.items()],
    )
    head = [f"{title}, %", *(part for name in MEASURE_TITLES.values() for part in (name, "more than bicubic"))]
    beside = report.markdown([*head, "capped CER"], [_beside(name, row) for name, row in methods.items()])
    size = f"{measured['characters']:,} characters in {measured['lines']} lines on {measured['pictures']} pictures."
    return f"{by_column}\n\n{beside}\n\n{title}: {size}"


def _beside(name: str, figures: Mapping[str, Any]) -> list[str]:
    base, cells = name == "bicubic", [name]
    for measure in MEASURE_TITLES:
        more = "" if base else _difference(figures[measure]["difference"])
        cells += [_percent(figures[measure]["rates"]["all"]), more]
    return [*cells, "" if base else errors.verdict(figures, "capped")]


def _difference(difference: Sequence[float]) -> str:
    more, *interval = (f"{100 * value:+.1f}" for value in difference)
    return f"{more} ({' to '.join(interval)})" if interval else more


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}"


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Plot texture, line pairs, and text of every kind, by method."""
    from matplotlib.figure import Figure  # one of the extras: its lack is told by what needs its fonts

    figure = Figure(figsize=(12, 7), layout="constrained")
    grid = figure.subplots(2, 3)
    texture, shown = figures["texture"], list(figures["text"].items())
    others = [name for name in texture if name not in _COLOURS]
    colours = _COLOURS | {name: f"C{i}" for i, name in enumerate(others, start=1)}
    for axes, (part, (title, _)) in zip(grid[0], PARTS.items(), strict=False):
        values = {name: row[part] for name, row in texture.items()}
        _curves(axes, f"Texture: {title}", _bands(), values, colours)
    periods = [f"{period} px" for period in charts.PERIODS]
    contrasts = {name: [row[period] for period in periods] for name, row in figures["charts"].items()}
    _curves(grid[0, 2], "Line pairs: contrast", periods, contrasts, colours)
    for axes, (title, measured) in zip(grid[1], shown, strict=False):
        methods = measured["methods"]
        sizes = [column for column in methods["HR"]["capped"]["rates"] if "px" in column]
        rates = {name: [100 * row["capped"]["rates"][size] for size in sizes] for name, row in methods.items()}
        _curves(axes, f"{title}: capped character error rate, %", sizes, rates, colours)
    for axes in grid[1, len(shown) :]:
        axes.remove()
    lines = dict(pair[::-1] for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True))
    names = [name for name in colours if name in lines]
    figure.legend([lines[name] for name in names], names, loc="outside lower center", ncols=len(names))
    figure.savefig(path, dpi=90)


def _curves(
    axes: "Axes", title: str, places: Sequence[str], curves: Mapping[str, Sequence[float]], colours: Mapping[str, str]
) -> None:
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.tick_params(axis="x", labelsize="small")
    for name, values in curves.items():
        axes.plot(places, values, marker="o", label=name, color=colours[name])
