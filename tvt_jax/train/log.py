"""What a run writes for people: a progress line, JSON lines, TensorBoard, pictures, and Weights & Biases."""

import json
import math
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter

from tvt_jax.files import write_whole
from tvt_jax.pixels import to_uint8
from tvt_jax.place import Place
from tvt_jax.train.chips import Work, machine_of
from tvt_jax.train.clock import SHARES, Clock, trained
from tvt_jax.train.config import TrainConfig
from tvt_jax.train.mirror import INTERVAL, Mirror
from tvt_jax.train.wandb_run import WandbRun

# What an entry tells of the machine, and not of the model.
SPEED = (
    "machine",
    "seconds",
    "steps_per_s",
    "images_per_s",
    "images_per_s_per_device",
    "tflops_per_s_per_device",
    "utilisation",
    "data_wait",
    "memory_gib",
    *SHARES,
)


class Log:
    """The log of a run, which writes each interval's metrics one interval late, so that the device never waits for it.

    Attributes:
        evaluated: the last step whose evaluation is in the log, or -1.
    """

    def __init__(self, workdir: Place, clock: Clock, start: int, config: TrainConfig) -> None:
        """Go on after step `start`; drop later entries of a run that was cut off.

        Args:
            workdir: gets metrics.jsonl, tensorboard/ and images/; only the first process writes. Into a bucket they
                are copied every half minute, and before a checkpoint.
            clock: of the run, which has begun to take steps.
            start: step of the resumed state.
            config: of the run.
        """
        self._clock = clock
        self._steps, self._every, self._batch = config.steps, config.log_every, config.data.batch
        self._interval: list[dict[str, Any]] = []
        self._skippable = config.skippable
        self._checked = self._in_a_row = 0
        self._late: _Interval | None = None
        self._work: Work | None = None
        self._begin = clock.spent()
        self._writes = jax.process_index() == 0
        self._machine = machine_of(jax.device_count(), jax.devices()[0])
        kept = _keep_until(workdir / "metrics.jsonl", start, warn=self._writes)
        self.evaluated = max((entry["step"] for entry in kept if entry["kind"] == "evaluate"), default=-1)
        if self._writes:
            self._mirror = Mirror(workdir)
            self._folder = self._mirror.folder
            write_whole(self._folder / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in kept))
            self._tensorboard = SummaryWriter(str(self._folder / "tensorboard"), purge_step=start + 1)
            self._wandb = WandbRun(workdir, self._folder, config) if config.wandb else None

    def compiled(self, work: Work) -> None:
        """Note what each step from now on takes."""
        self._work = work

    def step(self, step: int, metrics: dict[str, Any]) -> None:
        """Take the metrics of a step, still being computed.

        Raises:
            FloatingPointError: more than `skippable` steps in a row were skipped.
        """
        self._interval.append(metrics)
        if step % self._every == 0 or step == self._steps:
            now = self._clock.spent()
            late, self._late = self._late, _Interval(step, self._begin, now, self._interval)
            self._begin, self._interval = now, []
            self._train(late)

    def flush(self, step: int) -> None:
        """Write what is complete and check what is not, before the state of `step` is trusted to a checkpoint.

        Raises:
            FloatingPointError: more than `skippable` steps in a row were skipped.
        """
        late, self._late = self._late, None
        self._train(late)
        self._count_skipped(step - len(self._interval) + 1, jax.device_get(self._interval))
        self._copy()

    def evaluation(self, step: int, metrics: dict[str, float], images: dict[str, np.ndarray]) -> None:
        """Write the metrics of an evaluation, and its pictures (float [b h w 3] in [-1, 1]) as grids."""
        self._write("evaluate", step, metrics, trained(self._clock.spent()))
        self._print(f"step {step}  evaluation  " + _pairs(metrics))
        self.evaluated = step
        for name, batch in images.items() if self._writes else ():
            grid = _grid(batch)
            path = self._folder / "images" / f"step_{step:06d}_{name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(grid).save(path)
            self._tensorboard.add_image(name, grid, step, dataformats="HWC")
            if self._wandb:
                self._wandb.picture(name, grid, step)
        self._copy()

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        """Say where the time went; end the TensorBoard file, and the run in Weights & Biases."""
        self._print(str(self._clock))
        if self._writes:
            self._tensorboard.close()
            if self._wandb:
                self._wandb.close()
            self._copy()

    def _copy(self, every: float = 0.0) -> None:
        if self._writes:
            self._mirror.copy(every)

    def _train(self, interval: "_Interval | None") -> None:
        if interval is None:
            return
        step, steps = interval.step, jax.device_get(interval.metrics)
        self._count_skipped(step - len(steps) + 1, steps)
        taken = [metrics for metrics in steps if not metrics["skipped"]]
        metrics = {name: float(np.mean([m[name] for m in taken])) for name in (taken or [{}])[0] if name != "skipped"}
        skipped = {"skipped": float(len(steps) - len(taken))} if len(taken) < len(steps) else {}
        seconds = max(trained(interval.end) - trained(interval.begin), 1e-9)
        rate, waited = len(steps) / seconds, interval.end["input"] - interval.begin["input"]
        rates = {"steps_per_s": rate, "images_per_s": rate * self._batch, "data_wait": waited / seconds}
        rates |= (self._work.use(rate, self._batch) if self._work else {}) | _memory() | self._clock.shares()
        self._write("train", step, metrics | skipped | rates, trained(interval.end))
        shown = {name: value for name, value in metrics.items() if "/" not in name} | skipped
        self._print(
            f"step {step}/{self._steps}  {_pairs(shown)}  {rate:.3g} steps/s  {rate * self._batch:.3g} images/s  "
            f"eta {_clock((self._steps - step) / rate)}"
        )

    def _count_skipped(self, first: int, steps: list[dict[str, Any]]) -> None:
        """Name each skipped step once; raise FloatingPointError where too many come in a row."""
        for step, metrics in enumerate(steps, first):
            if step <= self._checked:
                continue
            self._checked = step
            self._in_a_row = self._in_a_row + 1 if metrics["skipped"] else 0
            if metrics["skipped"]:
                bad = [f"{name} is {float(value)}" for name, value in metrics.items() if not np.isfinite(value)]
                self._print(f"step {step}  skipped: {', '.join(bad)}")
            if self._in_a_row > self._skippable:
                raise FloatingPointError(f"{self._in_a_row} steps in a row were skipped, the last is step {step}")

    def _write(self, kind: str, step: int, metrics: dict[str, float], seconds: float) -> None:
        if not self._writes:
            return
        entry = {"kind": kind, "step": step, "seconds": round(seconds, 3), "machine": self._machine, **metrics}
        with open(self._folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps(entry) + "\n")
        for name, value in metrics.items():
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)
        self._tensorboard.flush()
        if self._wandb:
            self._wandb.scalars(kind, metrics, step)
        self._copy(INTERVAL)

    def _print(self, line: str) -> None:
        if self._writes:
            print(line, flush=True)


class _Interval(NamedTuple):
    """The steps between two progress lines.

    Attributes:
        step: the last one.
        begin: what the clock had spent before them.
        end: and after them.
        metrics: each one's.
    """

    step: int
    begin: dict[str, float]
    end: dict[str, float]
    metrics: list[dict[str, Any]]


def _memory() -> dict[str, float]:
    """Return the most memory that the first device of this process has used; a CPU does not tell."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use")
    return {} if peak is None else {"memory_gib": peak / 2**30}


def _keep_until(path: Place, step: int, warn: bool) -> list[dict[str, Any]]:
    """Read the entries up to `step`; leave out, and say, what is no entry."""
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), 1):
        try:
            entry = json.loads(line)
            entries += [entry] if entry["step"] <= step and entry["kind"] else []
        except (ValueError, KeyError, TypeError):
            if warn:
                print(f"warning: line {number} of {path} is damaged, and is left out", file=sys.stderr)
    return entries


def _grid(images: np.ndarray) -> np.ndarray:
    """Make one picture, as square as can be, of float [b h w 3] in [-1, 1]; uint8, black where none is left."""
    count, height, width, _ = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = np.concatenate([to_uint8(images), np.zeros((rows * columns - count, height, width, 3), np.uint8)])
    return pixels.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)


def _pairs(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
