"""How long train.py takes from its start to the end of its first step at full size.

    python -m proofs.startup --work DIR

Imports random checkpoints of the published files' size, and starts the adapt stage from them twice on this machine's
devices, on crops so small that the step itself takes little; the second time what is compiled comes from the cache.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from benchmarks import report
from proofs.conversion import run
from proofs.full_size import write_missing

ROOT = Path(__file__).parents[1]
CROP = 64
_MOMENTS = {"state": "starting at step 0", "compiled": "compiled the step in ", "step": "step 1/"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """From the start of train.py to its first step.

    Attributes:
        work: a folder for the checkpoints, the models and the cache, about 30 GB; checkpoints and models that are
            there are taken.
    """

    work: Path


def prepare(work: Path) -> None:
    """Make model folders of Stable Diffusion's and the release's size, and a few pictures of noise."""
    sd, tvt = write_missing(work)
    for name, words in (("prior", ()), ("vae", ("--tvt", tvt))):
        if not (work / name).exists():
            run("convert", "import", "--sd", sd, *words, "--out", work / name)
    images = work / "images"
    images.mkdir(exist_ok=True)
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 256, (CROP, CROP, 3), np.uint8)
        Image.fromarray(noise).save(images / f"{i}.png")


def command(work: Path, workdir: Path) -> list[str]:
    """Make the command that starts the adapt stage for one step."""
    changes = {
        "stage.prior_source": work / "prior",
        "stage.vae_source": work / "vae",
        "data.path": work / "images",
        "data.mixed": "[]",
        "data.crop": CROP,
        "data.batch": 1,
        "data.workers": 0,
        "evaluation": None,
        "steps": 1,
    }
    options = [f"--config.{name}={value}" for name, value in changes.items()]
    return [sys.executable, "-u", "train.py", "--config=configs/sd21/adapt.py", f"--workdir={workdir}", *options]


def watch(words: list[str], cache: Path) -> dict[str, float]:
    """Start training; return the seconds until the state is made, the step is compiled, and the first step is done.

    The seconds of compiling the step stand beside them, in `compiling`.

    Raises:
        ValueError: training ended before that.
    """
    begin, moments = time.monotonic(), {}
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            for moment, sign in _MOMENTS.items():
                if line.startswith(sign):
                    moments[moment] = time.monotonic() - begin
            if found := re.match(r"compiled the step in ([\d.]+) s", line):
                moments["compiling"] = float(found[1])
            if "step" in moments:
                process.kill()
    if "step" not in moments:
        raise ValueError("training ended before its first step; see its message above")
    return moments


def measure(options: Options) -> Iterator[tuple[str, dict[str, float]]]:
    """Start twice, from nothing."""
    work = options.work.absolute()
    prepare(work)
    for folder in ("runs", "cache"):
        shutil.rmtree(work / folder, ignore_errors=True)
    for name in ("cache empty", "cache filled"):
        yield name, watch(command(work, work / "runs" / name.replace(" ", "_")), work / "cache")


def table(figures: dict[str, dict[str, float]]) -> str:
    """Make a table, a row a start."""
    header = ["seconds", "state made", "step compiled", "first step done", "in all but compiling the step"]
    rows = [
        [
            name,
            *(f"{moments[moment]:.1f}" for moment in _MOMENTS),
            f"{moments['step'] - moments['compiling']:.1f}",
        ]
        for name, moments in figures.items()
    ]
    return report.markdown(header, rows)


def main() -> None:
    """Measure, and write and print the table."""
    options = tyro.cli(Options, description=__doc__)
    figures = dict(measure(options))
    report.write(options.work / "startup", figures, table(figures))
    print(table(figures))


if __name__ == "__main__":
    report.run_as_command(main)
