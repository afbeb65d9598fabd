"""Peak memory of upscaling, measured and as the program estimates it, whole and in tiles.

Each row is a process of its own: the peak of a process only grows.

python -m benchmarks.memory --out runs/memory
"""

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro

import tvt_jax
from benchmarks.report import markdown, run_as_command, write
from tvt_jax.inference.plan import Planner
from tvt_jax.inference.restoration import BATCH

# Megapixels of the result, and the tile; None is whole.
CASES = ((1, None), (4, None), (1, 96), (4, 160), (16, 160), (16, 288))


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        out: the table and the figures, without an ending.
        model: a model folder; the default is the embedded one.
        cases: megapixels of the result and tile of each row; a tile of 0 is none.
    """

    out: Path
    model: Path | None = None
    cases: tuple[tuple[int, int], ...] = tuple((size, tile or 0) for size, tile in CASES)


def main(options: Options) -> None:
    """Measure each case and print the table."""
    rows = []
    for megapixels, tile in options.cases:
        case = json.dumps([megapixels, tile, str(options.model or "")])
        command = [sys.executable, "-m", "benchmarks.memory", "--case", case]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append({"megapixels": megapixels, "tile": tile, **json.loads(run.stdout.splitlines()[-1])})
        print(rows[-1], flush=True)
    table = markdown(HEADER, [cells(row) for row in rows])
    write(options.out, {"rows": rows}, table)
    print(table)


HEADER = ("megapixels of the result", "tile", "measured, GB", "estimated, GB", "ratio")


def cells(row: dict) -> list[str]:
    """Make a row of the table."""
    measured, estimated = row["measured"], row["estimated"]
    figures = (f"{measured / 1e9:.2f}", f"{estimated / 1e9:.2f}", f"{estimated / measured:.2f}")
    return [str(row["megapixels"]), str(row["tile"] or "whole"), *figures]


def measure(megapixels: int, tile: int, model: str) -> dict[str, int]:
    """Upscale a picture in this process and tell its peak memory, and what was estimated, in bytes."""
    side = round((megapixels * 1e6) ** 0.5 / 4)
    upscaler = tvt_jax.load(model or None, tile=tile or None)
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    upscaler.upscale(image)
    assert upscaler.unet is not None
    planner = Planner(upscaler.vae.config, upscaler.unet.config, jnp.dtype("float32"), False, tile or None, 1)
    plan = planner.plan(4 * side, 4 * side)
    estimated = planner.estimate(plan)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"measured": peak, "estimated": estimated, "batch": 1 if plan.whole else BATCH}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(*json.loads(sys.argv[2]))))
    else:
        run_as_command(lambda: main(tyro.cli(Options, description=__doc__)))
