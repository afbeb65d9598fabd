"""A report that people look at: one HTML file with the table, a plot, and pictures to lay over each other."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tvt_jax.evaluation.pairs import read_rgb
from tvt_jax.evaluation.scores import Evaluation
from tvt_jax.files import write_whole
from tvt_jax.metrics import MORE_IS_BETTER

SHOWN = 9  # pictures at either end: a file of some ten megabytes
_QUALITY = 90
# Pictures are ranked by the first of these that was measured: those that agree best with people's judgement.
_RANKED_BY = ("lpips-alex", "dists", "lpips-vgg", "ssim-y", "psnr-y", "niqe")


@dataclass(frozen=True)
class Run:
    """A method's scores, and what the report calls it."""

    name: str
    evaluation: Evaluation


def write_report(path: Path, title: str, runs: Sequence[Run], layers: Mapping[str, Mapping[str, Path]]) -> None:
    """Write the report of the first run beside the others, whole or not at all.

    Args:
        path: the HTML file; nothing else is needed to look at it.
        title: heading.
        runs: the run that the pictures are of, then those that it is compared with.
        layers: image name -> what is shown of it -> file; smaller ones are enlarged to the size of the last.
    """
    data = _data(title, runs, layers)
    template = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    # "</script>" inside the JSON would end it.
    embedded = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    text = template.replace('type="application/json"></script>', f'type="application/json">{embedded}</script>')
    write_whole(path, text.replace("<title></title>", f"<title>{html.escape(title)}</title>"))


def _data(title: str, runs: Sequence[Run], layers: Mapping[str, Mapping[str, Path]]) -> dict[str, Any]:
    own = runs[0].evaluation
    means = [_means(run.evaluation) for run in runs]
    names = dict.fromkeys(name for of_run in means for name in of_run)
    return {
        "title": title,
        "summary": f"{len(own.images)} images scored, {len(own.failures)} with something missing.",
        "metrics": [{"name": name, "better": "more" if name in MORE_IS_BETTER else "less"} for name in names],
        "runs": [
            {"name": run.name, "mean": of_run, "images": run.evaluation.images}
            for run, of_run in zip(runs, means, strict=True)
        ],
        "galleries": _galleries(own, layers),
        "failures": own.failures,
    }


def _means(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return the means with their intervals, and without one the values that are of all images together."""
    means = {name: asdict(summary) for name, summary in evaluation.summaries().items()}
    return means | {name: {"mean": value} for name, value in evaluation.together.items()}


def _galleries(evaluation: Evaluation, layers: Mapping[str, Mapping[str, Path]]) -> list[dict[str, Any]]:
    metric = next((name for name in _RANKED_BY if name in evaluation.summaries()), None)
    if metric is None:
        return []
    sign = -1 if metric in MORE_IS_BETTER else 1
    scored = {name: sign * values[metric] for name, values in evaluation.images.items() if metric in values}
    ranked = sorted(scored, key=scored.__getitem__)
    best, worst = ranked[:SHOWN], ranked[SHOWN:][::-1][:SHOWN]
    ends = {"Best": best, "Worst": worst} if worst else {"All": best}
    return [
        {"title": f"{title} by {metric}", "pictures": [_picture(name, layers[name]) for name in names]}
        for title, names in ends.items()
    ]


def _picture(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    images = {label: Image.fromarray(read_rgb(file)) for label, file in files.items()}
    *_, last = images.values()
    shown = [
        {"label": label, "uri": _uri(image.resize(last.size, Image.Resampling.BICUBIC))}
        for label, image in images.items()
    ]
    return {"name": name, "width": last.width, "height": last.height, "layers": shown}


def _uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
