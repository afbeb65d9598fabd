"""The one train loop, in reading order: resume -> (evaluate) -> save -> next batch -> step -> log one interval late."""

import json
import signal
import sys
import time
from collections import deque
from contextlib import closing, nullcontext
from itertools import islice
from typing import Any

import jax
from jax.sharding import Mesh

from tvt_jax.data.pipeline import make_iterator
from tvt_jax.files import write_whole
from tvt_jax.model_folder import CARD, count_parameters, is_model_folder, write_model
from tvt_jax.place import Place
from tvt_jax.train import wandb_run
from tvt_jax.train.checkpoint import Checkpoints, newest, restore, restore_best, written_since
from tvt_jax.train.chips import Work, chip_of
from tvt_jax.train.clock import Clock
from tvt_jax.train.config import TrainConfig, check_devices, differences, to_json
from tvt_jax.train.lock import Check, locked
from tvt_jax.train.log import Log
from tvt_jax.train.preemption import StopSignals
from tvt_jax.train.profile import Profile
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh, to_host
from tvt_jax.train.state import State
from tvt_jax.train.watch import Watch
from tvt_jax.train.workdir import check_shared, check_space, prepare, read_config

# Steps given to the device beyond the one it works on: it never waits, and a stop is noticed soon.
_AHEAD = 2


def train(config: TrainConfig, workdir: Place, profiled: range | None = None, saved_step: Place | None = None) -> int:
    """Train until `config.steps`, from the newest checkpoint in the workdir where there is one.

    The steps `profiled` are traced into `workdir/profile`. The file `saved_step` saves compiling, if it holds the same.

    At the end `workdir/model` is the trained model folder. Running a finished run again only writes its model, if that
    is missing.

    Returns:
        0 when finished, or the number of the signal that stopped the run, whose state is then saved.

    Raises:
        FloatingPointError: more than `config.skippable` steps in a row would have made something NaN or infinite; the
            last good checkpoint stays.
        OSError: the workdir cannot be written, has no room or is another run's, or none of its checkpoints can be read.
        ValueError: the config does not fit the devices, the data or the checkpoint.
    """
    clock = Clock()
    wandb_run.check(config)
    _mesh(config)  # what does not fit is refused before other processes are asked for anything
    prepare(workdir)
    check_shared(workdir)
    with locked(workdir) if jax.process_index() == 0 else nullcontext(lambda: None) as check:
        return _train(config, workdir, profiled, saved_step, check, clock)


def _train(
    config: TrainConfig,
    workdir: Place,
    profiled: range | None,
    saved_step: Place | None,
    check: Check,
    clock: Clock,
) -> int:
    before = read_config(workdir)
    program, loaded = _program(config)
    last = newest(workdir / "checkpoints")
    if last is None or int(last.name) < config.steps:
        check_space(workdir, program.state, config.keep, bool(config.best))
    with Checkpoints(workdir / "checkpoints", config.keep, config.best, check) as checkpoints:
        state, host = _resume(config, before, workdir, program, loaded, checkpoints)
        del loaded  # in full precision it can be as large as the state
        if int(state.step) < config.steps:
            try:
                state, stopped_by = _loop(
                    config, workdir, program, checkpoints, state, host, profiled, saved_step, clock
                )
            except FloatingPointError as error:
                checkpoints.wait()
                good = newest(workdir / "checkpoints")
                where = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
                raise FloatingPointError(f"{error}; {where}") from error
            if stopped_by:
                print(f"stopped by {signal.Signals(stopped_by).name} at step {int(state.step)}, saved; "
                      "the same command goes on from here", flush=True)  # fmt: skip
                return stopped_by
    path, checkpoint = workdir / "model", newest(workdir / "checkpoints")
    if checkpoint is not None and is_model_folder(path) and written_since(checkpoint, path / CARD):
        print(f"done: trained to step {int(state.step)}, the model is in {path}")
    else:
        _write_model(config, path, state, config.stage.load())
    return 0


def export(config: TrainConfig, workdir: Place, path: Place | None = None, best: bool = False) -> int:
    """Write the model of the newest checkpoint, also while the run goes on.

    Args:
        config: of the run.
        workdir: of the run.
        path: where to; `workdir/model` if left out.
        best: of the checkpoint that is best by `config.best`, instead.

    Returns:
        The checkpoint's step.

    Raises:
        FileNotFoundError: there is no checkpoint, or none that was evaluated.
        OSError: none can be read, or not the best.
        ValueError: the config does not say by what it is best, or the checkpoint is of another model.
    """
    if best and not config.best:
        raise ValueError("--export=best needs a metric: --config.best=NAME")
    program, loaded = _program(config)
    folder = workdir / "checkpoints"
    restored = (
        restore_best(folder, program.state, config.best) if best and config.best else restore(folder, program.state)
    )
    if restored is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    _write_model(config, path or workdir / "model", restored[0], loaded)
    return int(restored[0].step)


def _loop(
    config: TrainConfig,
    workdir: Place,
    program: Program,
    checkpoints: Checkpoints,
    state: State,
    host: dict[str, Any],
    profiled: range | None,
    saved_step: Place | None,
    clock: Clock,
) -> tuple[State, int]:
    """Take steps from the state's to the last, or to a stop; return a saved state, and the signal of the stop, or 0."""
    held_out = _held_out(config)
    start = step = int(state.step)
    compiled = None
    ahead: deque[Any] = deque()
    clock.resume(host.get("clock"), workdir)
    with (
        closing(make_iterator(config.data, config.seed, jax.process_index(), jax.process_count())) as data,
        Log(workdir, clock, start, config) as log,
        Watch(workdir, config.stall_minutes, start) as watch,
        StopSignals() as stop,
        Profile(workdir / "profile", profiled) as profile,
    ):
        if host:
            data.set_state(host["data"])
        while True:
            stopping, done = stop.requested(step), step == config.steps
            evaluating = log.evaluated < step and not stopping and (step % config.evaluate_every == 0 or done)
            due = step % config.save_every == 0 or stopping or done or (evaluating and config.best)
            saving = step > start and due
            if evaluating or saving:
                log.flush(step)
            evaluation = None
            if evaluating and held_out:
                with clock.during("evaluating"), watch.first("evaluation"):
                    evaluation = _evaluate(program, state, held_out, log)
            with clock.during("saving"):
                if saving:
                    checkpoints.save(state, {"data": data.get_state(), "clock": clock.save()}, evaluation)
                if stopping or done:
                    checkpoints.wait()
                    return state, stop.received or 0
            profile.at(step, state)
            with clock.during("input"):
                batch = program.put(next(data))
            if compiled is None:
                with clock.during("compiling"), watch.first("step"):
                    compiled, work = _compile(program, batch, saved_step)
                    log.compiled(work)
            state, metrics = compiled(state, program.frozen, batch)
            step += 1
            ahead.append(metrics)
            if len(ahead) > _AHEAD:
                jax.block_until_ready(ahead.popleft())
            log.step(step, metrics)
            watch.step(step)


def _program(config: TrainConfig) -> tuple[Program, Any]:
    """Load what the stage starts from, and make the program; return both."""
    mesh = _mesh(config)
    loaded = config.stage.load()
    return Program(config, mesh, loaded), loaded


def _mesh(config: TrainConfig) -> Mesh:
    mesh = make_mesh(config.data_shards, config.fsdp_shards)
    check_devices(config, mesh.size, jax.process_count())
    return mesh


def _resume(
    config: TrainConfig, before: Any, workdir: Place, program: Program, loaded: Any, checkpoints: Checkpoints
) -> tuple[State, dict[str, Any]]:
    """Return the newest checkpoint's state and JSON, or a new state and {}; say which, and what the config changed."""
    now = to_json(config)
    changed = differences(before, now) if before is not None else []
    restored = checkpoints.restore(program.state)
    state, host = restored or (program.init(loaded), {})
    if changed and restored:
        print("warning: the config is not the one this run began with:\n  " + "\n  ".join(changed), file=sys.stderr)
    if jax.process_index() == 0:
        write_whole(workdir / "config.json", json.dumps(now, indent=2) + "\n")
    parameters = count_parameters(state.params)
    begin = f"going on from step {int(state.step)}" if restored else "starting at step 0"
    print(f"{begin} of {config.steps}: {parameters:,} trainable parameters, {program.mesh.size} "
          f"{jax.devices()[0].platform} device(s)", flush=True)  # fmt: skip
    return state, host


def _held_out(config: TrainConfig) -> list[dict[str, Any]]:
    """Read this process's part of the evaluation batches: always the same ones, whatever the run's seed."""
    if config.evaluation is None:
        return []
    with closing(make_iterator(config.evaluation, 0, jax.process_index(), jax.process_count())) as batches:
        return list(islice(batches, config.evaluation_batches))


def _evaluate(program: Program, state: State, held_out: list[dict[str, Any]], log: Log) -> dict[str, float]:
    metrics, pictures = program.evaluate(state, held_out)
    log.evaluation(int(state.step), metrics, pictures)
    return metrics


def _compile(program: Program, batch: dict[str, jax.Array], saved_step: Place | None) -> tuple[Any, Work]:
    begin = time.monotonic()
    step = program.compile_step(batch, saved_step)
    how = f"read the compiled step from {saved_step}" if step.loaded else "compiled the step"
    print(f"{how} in {time.monotonic() - begin:.1f} s", flush=True)
    # Of a device of another process nothing can be asked.
    return step.run, Work(step.flops, program.mesh.size, chip_of(program.mesh.local_devices[0]).flops)


def _write_model(config: TrainConfig, path: Place, state: State, loaded: Any) -> None:
    folder = config.stage.export(to_host(state), loaded)
    if jax.process_index() == 0:
        write_model(path, folder)
        print(f"wrote the model of step {int(state.step)} to {path}", flush=True)
