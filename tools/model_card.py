"""The embedded model's README: what was trained, on what, where, for how long, and what came of it."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tvt_jax.files import write_whole

_NO_FIGURE = ("kind", "step", "seconds", "machine")
_HEAD = """# The embedded model

A small TVT model for 4x enlargement: an 8x VAE, a latent diffusion prior, a 4x decoder, a 4x encoder and a one-step
UNet. One command trained them all from nothing, `python tools/pretrain.py {length}`, with the configurations
in `configs/tiny/`. All of the student is trained, not LoRA alone: a prior that was trained
for minutes is not worth protecting. The model is as small as its training: it shows what the method does at this size,
not what it does with Stable Diffusion's weights.

| stage | steps | crops a step | trained | held-out crops at the end |
|---|---|---|---|---|
"""

_TAIL = """
LPIPS on AlexNet and DISTS are among the losses, and flatter the model in these two columns. LPIPS on VGG and NIQE were
neither trained nor selected on. Nothing was trained, tuned or selected on a benchmark's images, typefaces or words
(`tvt_jax/data/text/excluded.py`).

![training losses (lines) and held-out evaluation (dots) of each stage](curves.png)

## What it was trained on

{photos} photos, fetched by `tools/fetch_photos.py`, which writes each one's licence beside it: {licences} (those held
out included). Pages, signs, labels, receipts, screens and drawings, rendered by `tools/fetch_text.py` from {faces}
families of typefaces in Debian and the text of Debian's installation guide (GPL-2); it writes their licences beside
them.
"""


def write_card(data: Path, runs: Path, out: Path, stages: Sequence[str], length: str) -> None:
    """Write `out/README.md` from the logs of the runs and the manifests of the data."""
    photos = json.loads((data / "photos" / "manifest.json").read_text())["photos"]
    licences = Counter(photo["licence"] for photo in photos)
    text = json.loads((data / "text" / "text.json").read_text())
    rows = "\n".join(_row(stage, runs / stage) for stage in stages)
    tail = _TAIL.format(
        photos=len(photos),
        licences=", ".join(f"{licence} {count}" for licence, count in licences.most_common()),
        faces=len(text["families"]),
    )
    write_whole(out / "README.md", _HEAD.format(length=length) + rows + "\n" + tail)


def _row(stage: str, run: Path) -> str:
    config = json.loads((run / "config.json").read_text())
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluation = [entry for entry in entries if entry["kind"] == "evaluate"][-1]
    crop, batch = config["data"]["crop"], config["data"]["batch"]
    figures = ", ".join(f"{name} {value:.3g}" for name, value in evaluation.items() if name not in _NO_FIGURE)
    where = ", ".join(f"{minutes:.0f} min on {machine}" for machine, minutes in _minutes(entries).items())
    return f"| {stage} | {entries[-1]['step']} | {batch} x {crop}x{crop} | {where} | {figures} |"


def _minutes(entries: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Sum up how long each machine has trained."""
    minutes: dict[str, float] = defaultdict(float)
    before = 0.0
    for entry in entries:
        minutes[entry["machine"]] += (entry["seconds"] - before) / 60
        before = entry["seconds"]
    return minutes
