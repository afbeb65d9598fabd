"""How much fine structure results keep: texture by frequency, an edge, line pairs, and small text.

    python -m benchmarks.fine_structure --model A --model B --sr NAME=DIR --out runs/fine_structure

Texture and the text of signs are measured on RealSR's test pairs, where results of any method can be given as a
folder; charts and pages are drawn here, so only what runs here is measured on them.
"""

from collections import defaultdict
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
from benchmarks import report, text
from benchmarks.fine_structure import charts, errors, pages, present, scene, spectrum
from benchmarks.realsr import bicubic
from tvt_jax.evaluation.pairs import Pairs, find_pairs
from tvt_jax.evaluation.pictures import read_rgb

Picture = UInt8[np.ndarray, "h w 3"]
Methods = Mapping[str, Callable[[Picture], Picture]]
SIDE = 256  # of charts and pages


@dataclass(frozen=True, kw_only=True)
class Options:
    """Texture, edges, line pairs and text of models beside bicubic enlargement and others' results.

    Attributes:
        model: a model folder; may be given several times. Without it the one that comes with the package.
        sr: NAME=DIR, a folder of results for the test pairs; may be given several times.
        bench: folder with test_LR and test_HR.
        limit: only the first so many pairs.
        pages: pages of text for each of 36 circumstances and each script.
        out: where the figures (.json), tables (.md) and plots (.png) go, besides the screen.
    """

    model: Annotated[tuple[Path, ...], UseAppendAction] = ()
    sr: Annotated[tuple[str, ...], UseAppendAction] = ()
    bench: Path = Path(__file__).parents[3] / "shared" / "bench" / "realsr"
    limit: int | None = None
    pages: int = 3
    out: Path | None = None


def measure(options: Options) -> dict[str, Any]:
    """Return all figures: `texture` and `charts` by the method's name, `text` by where it stands."""
    reader = text.load_reader()
    scripts = {"English": (text.bundled_fonts(), None), "Chinese": (text.chinese_fonts(), pages.chinese_word)}
    ours = {str(path): tvt_jax.load(path).upscale for path in options.model} or {"ours": tvt_jax.load().upscale}
    methods: Methods = {"bicubic": bicubic, **ours}
    texture, signs = measure_pairs(options, methods, reader)
    return {
        "texture": texture,
        "charts": {"HR": chart_figures(None)} | {name: chart_figures(call) for name, call in methods.items()},
        "text": signs | {
            script: measure_pages(script, fonts, word, methods, reader, options.pages)
            for script, (fonts, word) in scripts.items()
        },
    }  # fmt: skip


def measure_pairs(options: Options, methods: Methods, reader: text.Reader) -> tuple[dict[str, Any], dict[str, Any]]:
    """Average over the pairs what `spectrum.compare` gives, and read the text on them; no text if they bear none."""
    pairs, left_out = find_pairs(options.bench / "test_LR", options.bench / "test_HR")
    if left_out:
        name, why = next(iter(left_out.items()))
        raise ValueError(f"{name} {why}: the figures are those of whole benches")
    names = list(pairs)[: options.limit]
    published = dict(_results(given, options.bench / "test_HR", names) for given in options.sr)
    compared: dict[str, list[dict[str, list[float]]]] = defaultdict(list)
    lines: dict[str, list[errors.Line]] = defaultdict(list)
    for key in tqdm(names, desc="RealSR", unit="image"):
        image, truth = map(read_rgb, pairs[key])
        results = {name: upscale(image) for name, upscale in methods.items()}
        results |= {name: read_rgb(files[key][0]) for name, files in published.items()}
        for name, result in results.items():
            compared[name].append(spectrum.compare(result, truth))
        for name, result in {"HR": truth, "LR": as_squares(image), **results}.items():
            lines[name] += scene.read_lines(key, result, reader)
    texture = {
        name: {part: np.mean([row[part] for row in rows], axis=0).tolist() for part in rows[0]}
        for name, rows in compared.items()
    }
    return texture, {"RealSR": errors.summarise(lines, scene.COLUMNS)} if lines["HR"] else {}


def _results(given: str, truth: Path, names: Sequence[str]) -> tuple[str, Pairs]:
    """Return the name that NAME=DIR gives, and the files of the results in the folder."""
    name, found, folder = given.partition("=")
    if not found:
        raise ValueError(f"--sr {given} is not of the form NAME=DIR")
    files, _ = find_pairs(Path(folder), truth)
    if missing := [key for key in names if key not in files]:
        raise ValueError(f"{folder} has no result for {missing[0]}")
    return name, files


def as_squares(image: Picture) -> Picture:
    """Make each pixel a square of 4x4: the boxes of the text stay where they are, and nothing is added."""
    return image.repeat(4, axis=0).repeat(4, axis=1)


def measure_pages(
    script: str, fonts: Sequence[Path], word: text.Word | None, methods: Methods, reader: text.Reader, count: int
) -> dict[str, Any]:
    """Read the pages themselves, the degraded ones as they are, and what each method makes of those."""
    lines: dict[str, list[errors.Line]] = defaultdict(list)
    for page in tqdm(list(pages.draw(fonts, word, count, SIDE)), desc=script, unit="page"):
        shown = {"HR": page.page.image, "LR": as_squares(page.small)}
        shown |= {name: upscale(page.small) for name, upscale in methods.items()}
        for name, picture in shown.items():
            lines[name] += pages.read_lines(page, picture, reader)
    return errors.summarise(lines, pages.COLUMNS)


def chart_figures(upscale: Callable[[Picture], Picture] | None) -> dict[str, float]:
    """Measure the edge's rise and each period's modulation: of the charts, or of what is enlarged from a quarter."""

    def shown(chart: Picture) -> Picture:
        return chart if upscale is None else upscale(charts.quarter(chart))

    figures = {"rise": charts.rise(shown(charts.edge(SIDE)))}
    for period in charts.PERIODS:
        figures[f"{period} px"] = charts.modulation(shown(charts.line_pairs(SIDE, period)), period)
    return figures


def main() -> None:
    """Measure, print the tables, and write all where asked."""
    options = tyro.cli(Options)
    figures = measure(options)
    print(present.tables(figures))
    if options.out:
        report.write(options.out, figures, present.tables(figures))
        present.plot(figures, options.out.with_suffix(".png"))


if __name__ == "__main__":
    report.run_as_command(main)
