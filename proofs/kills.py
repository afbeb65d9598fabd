"""Kill -9 at random moments: does a run that is killed again and again end in the same bits as one that is not?

    python -m proofs.kills [--stage toy] [--kills 50] [--steps 2000] [--out runs/kills]

Trains a small stage by train.py, a linear one or one of the five with a few channels, whole and then killed, each with
a compilation cache of its own. Nothing but that same command puts a killed run right. The exit status is 1 if anything
differs.
"""

import json
import math
import os
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from orbax.checkpoint import v1 as ocp

from benchmarks import report
from proofs import micro
from tvt_jax.train.log import SPEED

ROOT = Path(__file__).parents[1]
SAVE_EVERY = 2
LONGEST = 3.0  # seconds of training before a kill


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is killed, and how often.

    Attributes:
        stage: that of proofs/toy.py, or one of proofs/micro.py; those that it starts from are trained first.
        kills: how many.
        steps: of the run, enough that it does not end before the last kill.
        seed: of the moments.
        out: folder for the runs, which must not be there.
    """

    stage: Literal["toy", "vae", "decoder", "prior", "encoder", "adapt"] = "toy"
    kills: int = 50
    steps: int = 2000
    seed: int = 0
    out: Path = Path("runs/kills")


@dataclass(kw_only=True)
class Found:
    """What the kills met.

    Attributes:
        phases: what the run was at, and how often; each kill while saving left a part of a checkpoint.
        progress: kills after which a newer checkpoint was there than before.
        damaged: checkpoints that could not be read on going on.
    """

    phases: Counter[str] = field(default_factory=Counter)
    progress: int = 0
    damaged: int = 0


class Run:
    """A run of the stage in a workdir under `root`, by train.py in processes of their own.

    Attributes:
        startup: seconds until its first step, as last measured.
    """

    startup = 0.0

    def __init__(self, root: Path, name: str, stage: str, steps: int) -> None:
        """Name the files and the command; start nothing yet."""
        self.workdir = root / name
        self.config = "proofs/toy.py" if stage == "toy" else "proofs/micro.py"
        self._printed = self.workdir.with_suffix(".txt")
        self._environment = os.environ | {name.upper(): str(value) for name, value in micro.QUICK.items()}
        self._environment |= {
            "JAX_PLATFORMS": "cpu",
            "XDG_CACHE_HOME": str(self.workdir.with_suffix(".cache")),
            "MICRO_STAGE": stage,
            "MICRO_ROOT": str(root),
            "TOY_IMAGES": str(root / "images"),
        }
        changes = [f"--config.steps={steps}", f"--config.save_every={SAVE_EVERY}", f"--config.log_every={SAVE_EVERY}"]
        self._command = ["train.py", f"--config={self.config}", f"--workdir={self.workdir}", *changes]

    def finish(self) -> None:
        """Train to the end.

        Raises:
            ValueError: the exit status is not 0.
        """
        process, _ = self._start(math.inf, math.inf)
        if process.returncode:
            raise ValueError(f"the run in {self.workdir} ended with status {process.returncode}; see {self._printed}")

    def kill(self, starting: float, training: float) -> str:
        """Start the run, kill it after so many seconds of starting or of training, and return what it was at.

        Raises:
            ValueError: the run ended by itself.
        """
        process, phase = self._start(starting, training)
        if process.returncode is not None:
            raise ValueError(
                f"the run in {self.workdir} ended before it was killed; see {self._printed}, or raise --steps"
            )
        process.kill()
        process.wait()
        return phase

    def newest(self) -> int:
        """Return the step of the newest checkpoint; 0 where there is none."""
        return max((int(path.name) for path in self._checkpoints() if path.name.isdigit()), default=0)

    def cut_off(self) -> set[tuple[str, int]]:
        """Return the parts of checkpoints that were cut off, by name and inode."""
        return {(path.name, path.stat().st_ino) for path in self._checkpoints() if "tmp" in path.name}

    def end(self) -> tuple[Any, Any]:
        """Read the state and the position in the data of the newest checkpoint."""
        path = self.workdir / "checkpoints" / str(self.newest())
        warnings.filterwarnings("ignore", message="Sharding info not provided")  # there is one device
        metadata = ocp.checkpointables_metadata(path).custom_metadata
        return ocp.load_checkpointables(path)["state"], metadata["host"]["data"]

    def damaged(self) -> int:
        """Count the checkpoints set aside because they could not be read."""
        return sum(path.suffix == ".corrupt" for path in self._checkpoints())

    def log(self) -> list[dict[str, Any]]:
        """Read the lines of metrics.jsonl, without what they tell of the machine."""
        lines = map(json.loads, (self.workdir / "metrics.jsonl").read_text().splitlines())
        return [{name: value for name, value in line.items() if name not in SPEED} for line in lines]

    def model(self) -> dict[str, bytes]:
        """Read the files of the exported model."""
        folder = self.workdir / "model"
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def _checkpoints(self) -> Iterator[Path]:
        return (self.workdir / "checkpoints").glob("*")

    def _start(self, starting: float, training: float) -> tuple[subprocess.Popen[bytes], str]:
        """Start or go on; return, with the phase, after so many seconds of starting or of training, or at the end."""
        begin = time.monotonic()
        self._printed.parent.mkdir(exist_ok=True)
        with open(self._printed, "wb") as printed:
            process = subprocess.Popen(
                [sys.executable, *self._command], cwd=ROOT, env=self._environment, stdout=printed
            )
        phase, limit = "starting", begin + starting
        while process.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
            if phase != "training" and (phase := self._phase()) == "training":
                self.startup = time.monotonic() - begin
                limit = time.monotonic() + training
        return process, phase

    def _phase(self) -> str:
        printed = self._printed.read_text()
        if "compiled the step" in printed:
            return "training"
        return "compiling" if "step" in printed else "starting"


def kill_often(run: Run, options: Options) -> Found:
    """Kill and go on, `options.kills` times, and let the run end."""
    moments, found = random.Random(options.seed), Found()
    for i in range(options.kills):
        before, parts = run.newest(), run.cut_off()
        moment = moments.random()
        phase = run.kill(math.inf, LONGEST * moment) if i % 3 == 2 else run.kill(moment * run.startup, 0.0)
        after = run.newest()
        if run.cut_off() - parts:
            phase = "saving"
        found.phases[phase] += 1
        found.progress += after > before
        print(f"kill {i + 1}: {phase}, the newest checkpoint is {after}", flush=True)
    run.finish()
    found.damaged = run.damaged()
    return found


def differences(a: Run, b: Run) -> list[str]:
    """List what differs between the ends of two runs: arrays of the state, data position, files of the model, log."""
    (state, position), other = a.end(), b.end()
    pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(other[0]), strict=True)
    differing = [
        f"state{jax.tree_util.keystr(path)}"
        for (path, x), y in pairs
        if np.asarray(x).tobytes() != np.asarray(y).tobytes()
    ]
    print(f"compared {len(jax.tree.leaves(state))} arrays, {len(a.model())} files and {len(a.log())} lines of the log")
    same = {"position": position == other[1], "model": a.model() == b.model(), "log": a.log() == b.log()}
    return differing + [name for name, is_same in same.items() if not is_same]


def main() -> None:
    """Train, kill, compare and tell.

    Raises:
        ValueError: something differs, or a run failed.
    """
    options = tyro.cli(Options)
    root = options.out.absolute()
    micro.write_images(root / "images")
    for stage in _before(options.stage):
        Run(root, f"runs/{stage}", stage, micro.STEPS).finish()
    whole, killed = (Run(root, name, options.stage, options.steps) for name in ("whole", "killed"))
    whole.finish()
    killed.startup = whole.startup
    found = kill_often(killed, options)
    phases = ", ".join(f"{count} while {phase}" for phase, count in found.phases.most_common())
    print(
        f"{options.kills} kills: {phases}; {found.progress} after a new checkpoint; {found.damaged} checkpoints damaged"
    )
    if differing := differences(whole, killed):
        raise ValueError(f"{len(differing)} differ from the run that was not killed: {', '.join(differing[:5])}")
    print("the same bits as the run that was not killed")


def _before(stage: str) -> list[str]:
    """List the stages that it starts from, first to last."""
    return list(dict.fromkeys(name for before in micro.NEEDS.get(stage, ()) for name in (*_before(before), before)))


if __name__ == "__main__":
    report.run_as_command(main)
