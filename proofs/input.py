"""How fast training images are degraded, beside the published arithmetic, and how long a step waits for them.

    python -m proofs.input --images DIR [--crop 512] [--batch 12] [--rounds 20] [--steps 0.1 0.3 1.0]

See docs/benchmarks.md.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from jaxtyping import UInt8

from benchmarks import report
from proofs import published_degradation
from tvt_jax.data.degradation import REAL_ESRGAN, TVT, Degradation, Parameters, apply, draw
from tvt_jax.data.pipeline import PREFETCHED_BATCHES, DataConfig, make_iterator

PRESETS = {"TVT": TVT, "REAL_ESRGAN": REAL_ESRGAN}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure on.

    Attributes:
        images: Folder of photos, or of tiles, not smaller than the crop.
        crop: Side of the crops, in pixels.
        batch: Crops in a batch; 12 are published.
        rounds: Batches that each side degrades.
        steps: Seconds that stand in for a training step, which sleeps: it leaves the cores to the data.
        waits: Steps that are waited for.
        workers: Worker processes in the measurement of waiting; 0 for threads.
        out: Where the figures go, without ending.
    """

    images: Path
    crop: int = 512
    batch: int = 12
    rounds: int = 20
    steps: tuple[float, ...] = (0.1, 0.3, 1.0)
    waits: int = 20
    workers: int = 0
    out: Path = Path("runs/input")


def measure(options: Options) -> dict[str, Any]:
    """Measure both presets."""
    return {name: throughput(preset, options) | waiting(preset, options) for name, preset in PRESETS.items()}


def throughput(preset: Degradation, options: Options) -> dict[str, float]:
    """Count the crops degraded per second of one core's time: ours, the published arithmetic's, and the ratio.

    Both degrade the same crops by the same parameters and take turns. What counts is the time that the thread ran,
    so that other work on the machine tells little; the first round loads and does not count.
    """
    iterator = make_iterator(DataConfig(path=str(options.images), crop=options.crop, batch=options.batch), seed=0)
    batches = [batch["hr"] for batch in islice(iterator, options.rounds + 1)]
    iterator.close()
    generator = np.random.default_rng(0)
    times: dict[str, list[float]] = {"ours": [], "published": []}
    for batch in batches:
        drawn = [draw(preset, generator) for _ in batch]
        times["ours"].append(thread_seconds(lambda: ours(batch, drawn, generator)))  # noqa: B023
        times["published"].append(thread_seconds(lambda: published_degradation.degrade(batch, drawn)))  # noqa: B023
    rates = {name: options.rounds * options.batch / sum(taken[1:]) for name, taken in times.items()}
    ratios = np.divide(times["published"][1:], times["ours"][1:])
    return rates | {"ratio": rates["ours"] / rates["published"], "median_ratio": float(np.median(ratios))}


def ours(
    batch: UInt8[np.ndarray, "b h w 3"], drawn: list[Parameters], generator: np.random.Generator
) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """Degrade the batch, image by image."""
    return [apply(image, parameters, generator) for image, parameters in zip(batch, drawn, strict=True)]


def thread_seconds(call: Callable[[], Any]) -> float:
    """Make the call, and return the seconds that this thread ran."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def waiting(preset: Degradation, options: Options) -> dict[str, float]:
    """Return, for each duration of a step, the share of the time in which it waits for a batch."""
    config = DataConfig(
        path=str(options.images),
        crop=options.crop,
        batch=options.batch,
        degradation=preset,
        workers=options.workers,
    )
    return {f"waiting_{step:g}s": _waiting_share(config, step, options.waits) for step in options.steps}


def _waiting_share(config: DataConfig, step: float, count: int) -> float:
    iterator = make_iterator(config, seed=0)
    waited = 0.0
    for index in range(PREFETCHED_BATCHES + count):  # what was made ahead before the first step does not count
        start = time.perf_counter()
        next(iterator)
        waited += (time.perf_counter() - start) * (index >= PREFETCHED_BATCHES)
        time.sleep(step)
    iterator.close()
    return waited / (waited + count * step)


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Make the table in Markdown."""
    waits = [key for key in next(iter(figures.values())) if key.startswith("waiting_")]
    header = ["preset", "ours, crops/s/core", "published", "ratio", "median ratio"]
    header += [f"waiting at {key.removeprefix('waiting_')} a step" for key in waits]
    rows = [
        [name, *(f"{row[key]:.1f}" for key in ("ours", "published", "ratio", "median_ratio"))]
        + [f"{row[key]:.1%}" for key in waits]
        for name, row in figures.items()
    ]
    return report.markdown(header, rows)


def main() -> None:
    """Measure, print the table, and write it."""
    options = tyro.cli(Options, description=__doc__)
    # The time of one core is told, which is the time that this thread runs.
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures = measure(options)
    print(table(figures))
    report.write(options.out, figures, table(figures))


if __name__ == "__main__":
    report.run_as_command(main)
