"""Train a stage.

python train.py --config=configs/tiny/decoder.py --workdir=W [--config.steps=1000]    the same command goes on
python train.py --config=configs/tiny/decoder.py --workdir=W --export[=best]          a checkpoint's model
python train.py --config=configs/sd21/adapt.py --plan=v5e:4x4                         will it fit, and how fast?
python train.py ... --plan=v5e:4x4 --save=FILE    and then    --saved-step=FILE       compile once, on a cheap machine

`tvt train` is the same. Exit status: 0 when trained, 1 on an error, 128 + the signal's number (143 for SIGTERM) when it
was asked to stop and saved.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from tvt_jax import compilation_cache
from tvt_jax.place import Place, place
from tvt_jax.train import distributed, plan
from tvt_jax.train.config import load_config
from tvt_jax.train.loop import export, train
from tvt_jax.train.profile import parse_steps


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, by default this program's, do what it says, and return the exit status."""
    arguments, overrides = _parser().parse_known_args(words)
    compilation_cache.enable()
    try:
        return execute(arguments, overrides)
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        return distributed.fail(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="a Python file that defines config() -> TrainConfig")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--workdir", type=Path, help="a folder or gs://BUCKET/RUN: checkpoints, logs and the model go here"
    )
    what.add_argument("--plan", metavar="TOPOLOGY", help="compile for a TPU topology such as v5e:4x4, or `local`")
    parser.add_argument("--find-batch", action="store_true", help="with --plan: the largest batch that fits")
    parser.add_argument("--quick", action="store_true", help="with --plan: in minutes, without the time of a step")
    parser.add_argument("--save", metavar="FILE", help="with --plan: keep the compiled step, for --saved-step")
    parser.add_argument("--saved-step", metavar="FILE", help="take the step that --save kept, if it is the same")
    parser.add_argument("--json", action="store_true", help="with --plan: print JSON")
    parser.add_argument(
        "--export",
        nargs="?",
        const="newest",
        choices=("newest", "best"),
        help="write the model of the newest checkpoint, or of the best by config.best, and end",
    )
    parser.add_argument("--profile", metavar="FIRST:LAST", help="trace these steps into WORKDIR/profile")
    distributed.add_arguments(parser)
    return parser


def execute(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Train, plan or export, and return the exit status; `overrides` are changes to the configuration.

    Raises:
        ValueError: the arguments do not go together, or a value makes no sense.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)  # what orbax has to say is said by us
    save, saved_step = _steps(arguments)
    workdir = place(arguments.workdir) if arguments.workdir else None
    config = load_config(arguments.config, overrides)
    if workdir is None:
        return plan.run(config, arguments.plan, arguments.find_batch, arguments.quick, arguments.json, save)
    distributed.start(arguments)
    if arguments.export:
        export(config, workdir, best=arguments.export == "best")
        return 0
    profiled = parse_steps(arguments.profile) if arguments.profile else None
    stopped_by = train(config, workdir, profiled, saved_step)
    return 128 + stopped_by if stopped_by else 0


def _steps(arguments: argparse.Namespace) -> tuple[Place | None, Place | None]:
    """Check the options of plans and of saved steps; return where the step is saved to, and where it is read from."""
    if (arguments.find_batch or arguments.quick or arguments.json or arguments.save) and not arguments.plan:
        raise ValueError("--find-batch, --quick, --json and --save go with --plan")
    if arguments.save and (arguments.find_batch or arguments.quick):
        raise ValueError("--save keeps the configuration's step, fully compiled: leave out --find-batch and --quick")
    save, saved_step = (place(path) if path else None for path in (arguments.save, arguments.saved_step))
    if saved_step and (arguments.plan or arguments.export):
        raise ValueError("--saved-step goes with training: leave out --plan and --export")
    if saved_step and not saved_step.exists():
        raise ValueError(f"--saved-step={saved_step}: there is no such file; --plan=TOPOLOGY --save=FILE makes one")
    return save, saved_step
