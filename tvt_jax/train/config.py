"""A run's configuration: a Python file that returns a `TrainConfig`, and changes to it from the command line."""

import ast
import dataclasses
import difflib
import importlib.util
import json
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from tvt_jax.data.pipeline import DataConfig
from tvt_jax.place import check
from tvt_jax.train.state import Stage

Changes = dict[str, Any]  # field -> what it is to be, as text, or the changes within it


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run.

    Attributes:
        stage: what is trained and how: losses, networks, optimisers.
        data: the training images.
        evaluation: held-out images, or None for no evaluation.
        evaluation_batches: how many batches of them, the same each time.
        steps: optimiser steps.
        seed: of the initial parameters, the order of the data and every step's randomness.
        log_every: steps between progress lines.
        evaluate_every: steps between evaluations; one more comes at the end.
        save_every: steps between checkpoints.
        skippable: how many steps in a row may be skipped because a loss or a parameter would not be finite.
        stall_minutes: without a step for so long, every process writes its stacks into the workdir, and goes on.
        keep: checkpoints kept, the newest.
        best: a metric of the evaluation; the checkpoint that is best by it is kept, too.
        wandb: project of Weights & Biases that the log is sent to, too.
        data_shards: devices the batch is split over (times `fsdp_shards`); 0 takes all that are left.
        fsdp_shards: devices the parameters are split over.
        fsdp_min_mib: arrays smaller than this are not split.
    """

    stage: Stage
    data: DataConfig
    evaluation: DataConfig | None = None
    evaluation_batches: int = 4
    steps: int
    seed: int = 0
    log_every: int = 50
    evaluate_every: int = 1000
    save_every: int = 500
    skippable: int = 10
    stall_minutes: float = 30.0
    keep: int = 2
    best: str | None = None
    wandb: str | None = None
    data_shards: int = 0
    fsdp_shards: int = 1
    fsdp_min_mib: float = 4.0

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ValueError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        """Tell what does not fit together, each in a sentence that begins with the field's name."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                yield f"{name}={getattr(self, name)} must be at least 1"
        for name in ("skippable", "data_shards", "fsdp_min_mib"):
            if getattr(self, name) < 0:
                yield f"{name}={getattr(self, name)} must not be negative"
        if not self.stall_minutes > 0:
            yield f"stall_minutes={self.stall_minutes} must be positive"
        yield from _misplaced_models(self.stage)
        if self.best and self.evaluation is None:
            yield f"best={self.best!r} needs evaluation images"
        if self.best and self.best not in self.stage.evaluated:
            yield f"best={self.best!r} is not among what is evaluated: {', '.join(self.stage.evaluated)}"
        if self.data.batch % self.stage.accumulation:
            parts = self.stage.accumulation
            yield f"data.batch={self.data.batch} cannot be taken in stage.accumulation={parts} equal parts"
        scale = getattr(self.stage, "scale", self.data.scale)
        for name, data in (("data", self.data), ("evaluation", self.evaluation)):
            if data is None:
                continue
            yield from (f"{name}.{problem}" for problem in self.stage.problems(data))
            if data.scale != scale:
                yield f"{name}.scale={data.scale} must be the same as everywhere else, {scale}"


def _misplaced_models(stage: Stage) -> Iterator[str]:
    """Tell which of the stage's texts, all names of model folders, are of a scheme that no model can be read by."""
    for name, value in vars(stage).items():
        try:
            check(value if isinstance(value, str) else "", "gs", "hf")
        except ValueError as error:
            yield f"stage.{name}: {error}"


_COUNTS = ("steps", "evaluation_batches", "log_every", "evaluate_every", "save_every", "keep", "fsdp_shards")


def check_devices(config: TrainConfig, devices: int, processes: int = 1) -> None:
    """Raise ValueError where batches cannot be split over the devices, and shared by the processes."""
    for name, data in (("data", config.data), ("evaluation", config.evaluation)):
        for count, what in ((devices, "devices"), (processes, "processes")):
            if data is not None and data.batch % count:
                field = f"--config.{name}.batch={data.batch}"
                raise ValueError(f"{field} does not split over {count} {what}: make it a multiple of {count}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Run `config()` of the file and apply overrides such as `--config.stage.learning_rate=1e-4`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file gives no TrainConfig, or an override names no field or has the wrong type.
    """
    path, argument = _split(str(path))
    if not path.is_file():
        raise FileNotFoundError(f"no configuration file {path}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses of the file look up their types there
    spec.loader.exec_module(module)
    config = module.config(*argument) if hasattr(module, "config") else None
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{path} must define config() -> TrainConfig")
    changes: Changes = {}
    for override in overrides:
        name, found, value = override.removeprefix("--config.").partition("=")
        if not override.startswith("--config.") or not found:
            raise ValueError(f"unknown argument {override!r}: changes are written --config.NAME=VALUE")
        _add(changes, name.split("."), value, name)
    return _changed(config, changes, "")


def _split(path: str) -> tuple[Path, list[str]]:
    """Part FILE.py:ARGUMENT into the file and what is handed to its config()."""
    file, found, argument = path.partition(".py:")
    return (Path(f"{file}.py"), [argument]) if found else (Path(path), [])


def lengths(config: TrainConfig, factor: float) -> dict[str, int]:
    """Give every count of steps times a factor, by the names that are typed: `steps`, `stage.optimizer.warmup` ...

    Those of the optimiser and of a discriminator are counted where the stage has them.
    """
    stage: Any = config.stage
    counts = {name: getattr(config, name) for name in ("steps", "log_every", "evaluate_every", "save_every")}
    if optimizer := getattr(stage, "optimizer", None):
        counts |= {f"stage.optimizer.{name}": getattr(optimizer, name) for name in ("warmup", "decay_until")}
    if hasattr(stage, "adversarial_start"):
        counts["stage.adversarial_start"] = stage.adversarial_start
    scaled = {name: max(1, round(count * factor)) for name, count in counts.items() if count}
    if until := scaled.get("stage.optimizer.decay_until"):
        scaled["stage.optimizer.decay_until"] = max(until, scaled.get("stage.optimizer.warmup", 0) + 1)
    return scaled


def _add(changes: Changes, names: list[str], text: str, full: str) -> None:
    """Put a change where its field is in the tree of changes; the last of a field counts."""
    for name in names[:-1]:
        inner = changes.setdefault(name, {})
        if isinstance(inner, str):
            raise ValueError(f"--config.{full}: a change of {name} as a whole came before")
        changes = inner
    if isinstance(changes.get(names[-1]), dict):
        raise ValueError(f"--config.{full}: a change within it came before")
    changes[names[-1]] = text


def _changed(config: Any, changes: Changes, path: str) -> Any:
    """Copy with all changes, made at once, so that no order of them passes through what does not fit together."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        name = next(iter(changes))
        raise ValueError(f"--config.{path}{name}: {config!r} has no fields, so no {name!r}")
    values = {}
    for name, change in changes.items():
        full = f"{path}{name}"
        _require_field(config, name, full)
        if isinstance(change, dict):
            values[name] = _changed(getattr(config, name), change, f"{full}.")
        else:
            values[name] = _read(change, get_type_hints(type(config))[name], full)
    try:
        return dataclasses.replace(config, **values)
    except ValueError as error:
        raise ValueError("\n".join(f"--config.{path}{line}" for line in str(error).splitlines())) from error


def _require_field(config: Any, name: str, full: str) -> None:
    fields = [field.name for field in dataclasses.fields(config)]
    if name not in fields:
        near = difflib.get_close_matches(name, fields)
        hint = f"did you mean {' or '.join(near)}?" if near else f"its fields are {', '.join(fields)}"
        raise ValueError(f"--config.{full}: {type(config).__name__} has no {name!r}; {hint}")


def _read(text: str, wanted: Any, full: str) -> Any:
    """Read the text as the field's type wants it."""
    for value in _readings(text):
        if _fits(value, wanted):
            return _convert(value, wanted)
    literals = [hint for hint in (wanted, *get_args(wanted)) if get_origin(hint) is Literal]
    if choices := [choice for literal in literals for choice in get_args(literal)]:
        raise ValueError(f"--config.{full}: {text!r} is not one of {', '.join(map(str, choices))}")
    raise ValueError(f"--config.{full}: {text!r} is not of type {getattr(wanted, '__name__', wanted)}")


def _readings(text: str) -> list[Any]:
    """Read the text as a Python literal, where it is one, and as it stands."""
    try:
        return [ast.literal_eval(text), text]
    except (ValueError, SyntaxError):
        return [text]


def _fits(value: Any, hint: Any) -> bool:
    arguments, origin = get_args(hint), get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        each = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(each) == len(value) and all(map(_fits, value, each))
    if hint is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint in (bool, str, type(None), None) and isinstance(value, hint or type(None))


def _convert(value: Any, hint: Any) -> Any:
    """Make an integer a float, and a list a tuple, where the field wants one."""
    if isinstance(value, list):
        return tuple(value)
    return float(value) if hint is float else value


def to_json(config: Any) -> Any:
    """Turn the configuration into JSON-able data; a dataclass names its class under "class"."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"class": type(config).__name__} | fields
    if isinstance(config, dict):
        return {str(key): to_json(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_json(value) for value in config]
    return config if isinstance(config, str | int | float | bool | None) else repr(config)


# Fields that may change between two runs in a workdir without changing what is trained.
_CADENCE = (
    *("steps", "log_every", "evaluate_every", "save_every", "skippable", "stall_minutes"),
    *("keep", "best", "evaluation", "evaluation_batches", "wandb"),
)
_FREE = (*_CADENCE, "data_shards", "fsdp_shards", "fsdp_min_mib")


def differences(before: Any, after: Any, name: str = "config") -> list[str]:
    """List what differs between two configurations as JSON, a line a field; leave out cadence, length and devices."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {**before, **after} if name != "config" or key not in _FREE]
        return [line for key in keys for line in differences(before.get(key), after.get(key), f"{name}.{key}")]
    return [] if before == after else [f"{name}: {json.dumps(before)} -> {json.dumps(after)}"]
