"""A report that people look at: one HTML file with the tables, a plot, and pictures to lay over each other."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from tvt_jax.evaluation.compare import Comparison, Run, compare, other_truths
from tvt_jax.evaluation.pictures import read_rgb
from tvt_jax.evaluation.scores import Evaluation
from tvt_jax.files import write_whole
from tvt_jax.metrics import LESS_IS_BETTER, MORE_IS_BETTER
from tvt_jax.slider import SCRIPT, STYLE

SHOWN = 9  # pictures at either end
LARGE = 100  # images that are shown large: a file of some tens of megabytes
_SIDES = (1600, 320)  # pixels of the longer side at most, of these and of all others
_QUALITY = 90
# Pictures are ranked by the first of these that was measured: those that agree best with people's judgement.
_RANKED_BY = ("lpips-alex", "dists", "lpips-vgg", "ssim-y", "psnr-y", "niqe")


def write_report(
    path: Path,
    title: str,
    runs: Sequence[Run],
    layers: Mapping[str, Mapping[str, Path]],
    categories: Mapping[str, str] | None = None,
) -> None:
    """Write the report of the first run beside the others, whole or not at all.

    Args:
        path: the HTML file; nothing else is needed to look at it.
        title: heading.
        runs: the run that the pictures are of, then those that it is compared with.
        layers: image name -> what is shown of it -> file; smaller ones are enlarged to the size of the last.
        categories: image name -> its category, for columns of their own.
    """
    data = _data(title, runs, layers, categories or {})
    template = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    # "</script>" inside the JSON would end it.
    embedded = json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
    template = template.replace("/* slider.css */\n", STYLE).replace("/* slider.js */\n", SCRIPT)
    text = template.replace('type="application/json"></script>', f'type="application/json">{embedded}</script>')
    write_whole(path, text.replace("<title></title>", f"<title>{html.escape(title)}</title>"))


def _data(
    title: str, runs: Sequence[Run], layers: Mapping[str, Mapping[str, Path]], categories: Mapping[str, str]
) -> dict[str, Any]:
    own = runs[0].evaluation
    compared = compare(runs)
    together = dict.fromkeys(name for run in runs for name in run.evaluation.together)
    galleries = _galleries(own)
    shown = [name for names in galleries.values() for name in names]
    ordered = dict.fromkeys([*shown, *(name for name in own.images if name in layers)])
    sides = [_SIDES[i >= max(LARGE, len(shown))] for i in range(len(ordered))]
    return {
        "title": title,
        "summary": f"{len(own.images)} images scored, {len(own.failures)} with something missing.",
        "metrics": [{"name": name, "better": _better(name)} for name in dict.fromkeys([*compared, *together])],
        "runs": [_run(run, [compared[name] for name in compared], list(compared), i) for i, run in enumerate(runs)],
        "categories": _categories(runs, categories),
        "galleries": [{"title": title, "names": names} for title, names in galleries.items()],
        "pictures": {name: _picture(layers[name], side) for name, side in zip(ordered, sides, strict=True)},
        "notes": _notes(runs),
    }


def _run(run: Run, compared: Sequence[Comparison], metrics: Sequence[str], index: int) -> dict[str, Any]:
    """Return a run's row: means over common pictures, differences to the first run, what is best, and its cost."""
    cells: dict[str, dict[str, Any]] = {}
    for metric, comparison in zip(metrics, compared, strict=True):
        if mean := comparison.means[index]:
            difference = comparison.differences[index]
            more = None if difference is None else asdict(difference)
            cells[metric] = {**asdict(mean), "difference": more, "best": comparison.best[index]}
    cells |= {name: {"mean": value} for name, value in run.evaluation.together.items()}
    seconds = run.evaluation.seconds.values()
    return {
        "name": run.name,
        "count": len(run.evaluation.images),
        "cells": cells,
        "seconds": median(seconds) if seconds else None,
        "images": run.evaluation.images,
    }


def _categories(runs: Sequence[Run], categories: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each category's means by metric and run, over the common pictures that are in it."""
    found = []
    for category in sorted(set(categories.values())):
        compared = compare(runs, [name for name in categories if categories[name] == category])
        means = {
            metric: [None if mean is None else asdict(mean) for mean in comparison.means]
            for metric, comparison in compared.items()
        }
        found.append({"name": category, "means": means})
    return found


def _better(metric: str) -> str:
    return "more" if metric in MORE_IS_BETTER else "less" if metric in LESS_IS_BETTER else "unknown"


def _notes(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return by heading what was not scored, and what needs care."""
    first, *others = runs
    different = dict.fromkeys(other_truths(runs), "the runs compared it with different truths or borders")
    sections = {
        "Not scored": first.evaluation.failures,
        "Scored, with doubts": first.evaluation.warnings,
        "Not compared": different,
        **{f"Missing in {run.name}": run.evaluation.failures for run in others},
    }
    return [{"title": title, "items": list(items.items())} for title, items in sections.items() if items]


def _galleries(evaluation: Evaluation) -> dict[str, list[str]]:
    metric = next((name for name in _RANKED_BY if name in evaluation.summaries()), None)
    if metric is None:
        return {}
    sign = -1 if metric in MORE_IS_BETTER else 1
    scored = {name: sign * values[metric] for name, values in evaluation.images.items() if metric in values}
    ranked = sorted(scored, key=scored.__getitem__)
    best, worst = ranked[:SHOWN], ranked[SHOWN:][::-1][:SHOWN]
    ends = {"Best": best, "Worst": worst} if worst else {"All": best}
    return {f"{end} by {metric}": names for end, names in ends.items()}


def _picture(files: Mapping[str, Path], longest: int) -> dict[str, Any]:
    images = {label: Image.fromarray(read_rgb(file)) for label, file in files.items()}
    *_, last = images.values()
    factor = min(1, longest / max(last.size))
    size = (max(1, round(last.width * factor)), max(1, round(last.height * factor)))
    shown = [
        {"label": label, "uri": _uri(image.resize(size, Image.Resampling.BICUBIC))} for label, image in images.items()
    ]
    return {"width": last.width, "height": last.height, "whole": factor == 1, "layers": shown}


def _uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
