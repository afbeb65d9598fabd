"""How much fine structure results keep: texture by frequency, an edge, line pairs, and small text.

    python -m benchmarks.fine_structure --model A --model B --sr NAME=DIR --out runs/fine_structure

Texture is measured on RealSR's test pairs, where results of any method can be given as a folder; charts and pages are
drawn here, so only what runs here is measured on them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import UInt8
from tqdm import tqdm
from tyro.conf import UseAppendAction

import tvt_jax
from benchmarks import report
from benchmarks.fine_structure import charts, reading, spectrum
from benchmarks.realsr import bicubic
from tvt_jax.evaluation.pairs import Pairs, find_pairs, read_rgb
from tvt_jax.metrics import text

Picture = UInt8[np.ndarray, "h w 3"]
Methods = Mapping[str, Callable[[Picture], Picture]]
PERIODS = (6, 8, 10, 12, 16, 24)  # pixels of the result; the input can hold those of 8 and more
RESOLVED = 0.2  # of the contrast
SIDE = 256  # of charts and pages


@dataclass(frozen=True, kw_only=True)
class Options:
    """Texture, edges, line pairs and text of models beside bicubic enlargement and others' results.

    Attributes:
        model: a model folder; may be given several times.
        sr: NAME=DIR, a folder of results for the test pairs; may be given several times.
        bench: folder with test_LR and test_HR.
        limit: only the first so many pairs.
        pages: pages of text for each of 24 circumstances.
        chinese: a font with Chinese characters; without it only English is read.
        out: where the figures (.json) and tables (.md) go, besides the screen.
    """

    model: Annotated[tuple[Path, ...], UseAppendAction] = ()
    sr: Annotated[tuple[str, ...], UseAppendAction] = ()
    bench: Path = Path(__file__).parents[3] / "shared" / "bench" / "realsr"
    limit: int | None = None
    pages: int = 1
    chinese: Path | None = None
    out: Path | None = None


def measure(options: Options) -> dict[str, Any]:
    """All figures: `texture`, `charts` and `text`, each by the method's name."""
    methods: Methods = {"bicubic": bicubic, **{str(path): tvt_jax.load(path).upscale for path in options.model}}
    reader = text.load_reader()
    scripts: dict[str, Any] = {"English": (text.bundled_fonts(), None)}
    if options.chinese:
        scripts["Chinese"] = ([options.chinese], reading.chinese_word)
    return {
        "texture": texture(options, methods),
        "charts": {"HR": chart_figures(None)} | {name: chart_figures(call) for name, call in methods.items()},
        "text": {
            script: reading.measure(fonts, word, methods, reader, count=options.pages, side=SIDE)
            for script, (fonts, word) in scripts.items()
        },
    }


def texture(options: Options, methods: Methods) -> dict[str, dict[str, list[float]]]:
    """Means over the pairs of what `spectrum.compare` gives."""
    pairs, _ = find_pairs(options.bench / "test_LR", options.bench / "test_HR")
    names = list(pairs)[: options.limit]
    published = dict(_results(given, options.bench / "test_HR", names) for given in options.sr)
    compared: dict[str, list[dict[str, list[float]]]] = {name: [] for name in (*methods, *published)}
    for key in tqdm(names, unit="image"):
        image, truth = map(read_rgb, pairs[key])
        for name, upscale in methods.items():
            compared[name].append(spectrum.compare(upscale(image), truth))
        for name, files in published.items():
            compared[name].append(spectrum.compare(read_rgb(files[key][0]), truth))
    return {
        name: {part: np.mean([row[part] for row in rows], axis=0).tolist() for part in rows[0]}
        for name, rows in compared.items()
    }


def _results(given: str, truth: Path, names: Sequence[str]) -> tuple[str, Pairs]:
    """Name and files of the results that NAME=DIR tells."""
    name, found, folder = given.partition("=")
    if not found:
        raise ValueError(f"--sr {given} is not of the form NAME=DIR")
    files, _ = find_pairs(Path(folder), truth)
    if missing := [key for key in names if key not in files]:
        raise ValueError(f"{folder} has no result for {missing[0]}")
    return name, files


def chart_figures(upscale: Callable[[Picture], Picture] | None) -> dict[str, float]:
    """Rise of the edge and modulation of each period: of the charts, or of them at a quarter of the size, enlarged."""

    def shown(chart: Picture) -> Picture:
        return chart if upscale is None else upscale(charts.quarter(chart))

    figures = {"rise": charts.rise(shown(charts.edge(SIDE)))}
    for period in PERIODS:
        figures[f"{period} px"] = charts.modulation(shown(charts.line_pairs(SIDE, period)), period)
    return figures


def finest(figures: Mapping[str, float]) -> int | None:
    """The shortest period that keeps `RESOLVED` of its contrast, as all longer ones do; None if none does."""
    found = None
    for period in sorted(PERIODS, reverse=True):
        if figures[f"{period} px"] < RESOLVED:
            break
        found = period
    return found


def tables(figures: dict[str, Any]) -> str:
    """All tables in Markdown."""
    bands = [f"1/{round(1 / low)} to 1/{round(1 / high)}" for low, high in spectrum.BANDS]
    parts = [
        report.markdown((f"texture, {title}", *bands), [
            (name, *(f"{value:{form}}" for value in row[part])) for name, row in figures["texture"].items()
        ])
        for part, title, form in (("energy", "dB over the truth's", "+.1f"), ("correlation", "correlation", ".3f"))
    ]  # fmt: skip
    head = ("charts", "edge, px", *(f"lines of {period} px" for period in PERIODS), "finest, px")
    rows = [
        (name, *(f"{value:.2f}" for value in row.values()), str(finest(row) or "none"))
        for name, row in figures["charts"].items()
    ]
    parts.append(report.markdown(head, rows))
    for script, methods in figures["text"].items():
        cells = [(name, *(f"{100 * rate:.1f}" for rate in rates.values())) for name, rates in methods.items()]
        parts.append(report.markdown((f"{script}, CER %", *methods["HR"]), cells))
    return "\n\n".join(parts)


def main() -> None:
    """Measures, prints the tables, and writes them where asked."""
    options = tyro.cli(Options)
    figures = measure(options)
    print(tables(figures))
    if options.out:
        report.write(options.out, figures, tables(figures))


if __name__ == "__main__":
    report.run_as_command(main)
