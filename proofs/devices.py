"""One run on any number of devices and processes: every logged number of its steps, against those of one device.

    python -m proofs.devices [--stages adapt] [--out runs/devices]

Trains the five stages, with the smallest networks there are, on the CPU as so many devices as a topology has. Exit
status 1 if a loss, or the length of a gradient or of the parameters, differs by more than its limit. The same command
goes on where it was cut off.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from PIL import Image

from benchmarks import report
from tvt_jax.train.log import SPEED

ROOT = Path(__file__).parents[1]
CONFIG = "proofs/micro.py"
STAGES = ("vae", "decoder", "prior", "encoder", "adapt")  # each after those whose models it starts from
CROP, BATCH = 32, 8
# The published adapt stage's: at the tests' rate, 2e-3, so small networks are chaotic, and rounding grows to per cents.
OPTIMIZER = {"learning_rate": 5e-5, "warmup": 500}
LENGTHS = ("gradient_norm/", "parameter_norm/")
# A gradient jumps where a unit of LPIPS or of the discriminator turns on or off.
LIMITS = {"losses": 1e-5, "lengths": 1e-2}
# Nearly all the time goes into compiling: this takes least of it, and a third of the memory.
_QUICK = "--xla_backend_optimization_level=0"
if jax.__version_info__ < (0, 11):  # later compilers know no such option
    _QUICK += " --xla_cpu_use_fusion_emitters=false"
# As many threads as cores are too few: those that wait in a collective for another device can leave it none.
SETTINGS = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": _QUICK, "PJRT_NPROC": "32"}
UNCOMPARED = ("kind", *SPEED)

Logged = dict[str, np.ndarray]  # metric -> value of each step
Differences = dict[str, float]  # losses and lengths -> the largest, relative


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Devices that the batch is split over, those that the parameters are, and the processes that share them."""

    data: int = 1
    fsdp: int = 1
    processes: int = 1

    @property
    def name(self) -> str:
        """What the table calls it."""
        shared = f", {self.processes} processes" if self.processes > 1 else ""
        return f"{self.data} × {self.fsdp}{shared}"


ONE = Topology()
TOPOLOGIES = (
    *(Topology(data=count) for count in (2, 4, 8)),
    *(Topology(fsdp=count) for count in (2, 4, 8)),
    *(Topology(data=data, fsdp=2) for data in (2, 4)),
    *(Topology(data=2, fsdp=2, processes=count) for count in (2, 4)),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """One run on any number of devices and processes.

    Attributes:
        stages: those compared; the others are trained as far as these start from them.
        steps: of each run.
        out: where the runs and the table are kept.
    """

    stages: tuple[str, ...] = STAGES
    steps: int = 20
    out: Path = Path("runs/devices")


def measure(options: Options) -> dict[str, dict[str, Differences]]:
    """Train what is not trained yet; return each stage's largest relative differences on each topology.

    Raises:
        ValueError: there is no such stage, or a run failed.
    """
    if unknown := set(options.stages) - set(STAGES):
        raise ValueError(f"no stage is called {unknown.pop()}: choose from {', '.join(STAGES)}")
    write_images(options.out / "images")
    figures: dict[str, dict[str, Differences]] = {}
    for stage in STAGES[: 1 + max(map(STAGES.index, options.stages))]:
        expected = train(options, stage, ONE)
        if stage in options.stages:
            figures[stage] = {t.name: differences(train(options, stage, t), expected) for t in TOPOLOGIES}
    return figures


def write_images(folder: Path) -> None:
    """Write a dozen pictures of gradients and noise, each one crop large."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    ramp = np.mgrid[:CROP, :CROP].transpose(1, 2, 0) / CROP
    for i in range(12):
        smooth = 200 * ramp @ generator.dirichlet(np.ones(3), 2)
        Image.fromarray(np.uint8(smooth + generator.uniform(0, 55, smooth.shape))).save(folder / f"{i}.png")


def train(options: Options, stage: str, topology: Topology) -> Logged:
    """Return what a run logs, and train it if that is not done, from the models of the runs on one device.

    Raises:
        ValueError: it failed.
    """
    shape = "" if topology == ONE else f"_{topology.data}x{topology.fsdp}x{topology.processes}"
    workdir = options.out.resolve() / "runs" / f"{stage}{shape}"
    losses = logged(workdir)
    if len(losses.get("step", ())) < options.steps:
        print(f"{stage} on {topology.name}", file=sys.stderr, flush=True)
        shutil.rmtree(workdir, ignore_errors=True)  # a run that was cut off may still be writing there
        run(commands(options.steps, topology, workdir), stage, topology, options.out.resolve())
        losses = logged(workdir)
    return losses


def logged(workdir: Path) -> Logged:
    """Read all that the log of a finished run tells of the model; nothing of an unfinished one."""
    if not (workdir / "model").is_dir():
        return {}
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {name: np.array([entry[name] for entry in entries]) for name in entries[0] if name not in UNCOMPARED}


def differences(found: Logged, expected: Logged) -> Differences:
    """Find the largest difference of all losses and that of all lengths, over all steps.

    They are relative to the metric's largest value, since some pass through 0 on their way.
    """
    scales = {name: np.abs(values).max() or 1.0 for name, values in expected.items()}
    relative = {name: np.abs(found[name] - values).max() / scales[name] for name, values in expected.items()}
    lengths = [value for name, value in relative.items() if name.startswith(LENGTHS)]
    losses = [value for name, value in relative.items() if not name.startswith(LENGTHS)]
    return {"losses": float(np.max(losses)), "lengths": float(np.max(lengths, initial=0.0))}


def commands(steps: int, topology: Topology, workdir: Path) -> list[list[str]]:
    """Make the command of each process."""
    changes = {
        "steps": steps,
        "save_every": steps,
        "data.batch": BATCH,
        "data_shards": topology.data,
        "fsdp_shards": topology.fsdp,
        "fsdp_min_mib": 1e-4,  # nearly everything is split
        **{f"stage.optimizer.{name}": value for name, value in OPTIMIZER.items()},
    }
    command = [sys.executable, "train.py", f"--config={CONFIG}", f"--workdir={workdir}"]
    command += [f"--config.{name}={value}" for name, value in changes.items()]
    if topology.processes == 1:
        return [command]
    together = [f"--coordinator=127.0.0.1:{free_port()}", f"--processes={topology.processes}"]
    return [[*command, *together, f"--process={index}"] for index in range(topology.processes)]


def free_port() -> int:
    """Find a port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def run(together: list[list[str]], stage: str, topology: Topology, root: Path) -> None:
    """Run the processes of one run to their end.

    Raises:
        ValueError: one failed.
    """
    devices = topology.data * topology.fsdp // topology.processes
    settings = SETTINGS | {"JAX_NUM_CPU_DEVICES": str(devices), "MICRO_STAGE": stage, "MICRO_ROOT": str(root)}
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for command in together
    ]
    errors = [process.communicate()[1] for process in processes]
    if failed := [error for process, error in zip(processes, errors, strict=True) if process.returncode]:
        raise ValueError(f"{stage} on {topology.name} failed:\n{failed[0]}")


def table(figures: dict[str, dict[str, Differences]]) -> str:
    """Make a table, a row a topology and a column a stage: losses, and lengths in brackets."""
    header = ["data × fsdp", *figures]
    names = next(iter(figures.values()))
    rows = [
        [name, *(f"{stage[name]['losses']:.1e} ({stage[name]['lengths']:.0e})" for stage in figures.values())]
        for name in names
    ]
    return report.markdown(header, rows)


def main() -> None:
    """Print the table, and write it beside the runs.

    Raises:
        ValueError: a difference is above its limit.
    """
    options = tyro.cli(Options, description=__doc__)
    figures = measure(options)
    print(table(figures))
    report.write(options.out / "devices", figures, table(figures))
    for what, limit in LIMITS.items():
        largest = np.max([found[what] for stage in figures.values() for found in stage.values()])
        if not largest <= limit:
            raise ValueError(f"the largest difference of {what}, {largest:.1e}, is above {limit:.0e}")


if __name__ == "__main__":
    report.run_as_command(main)
