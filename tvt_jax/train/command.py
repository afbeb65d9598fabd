"""What train.py understands."""

import argparse
import logging
from pathlib import Path

from tvt_jax.train import distributed, plan
from tvt_jax.train.config import load_config
from tvt_jax.train.loop import export, train
from tvt_jax.train.profile import parse_steps


def make_parser(description: str) -> argparse.ArgumentParser:
    """The options of train.py."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="a Python file that defines config() -> TrainConfig")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", type=Path, help="checkpoints, logs and the model go here")
    what.add_argument("--plan", metavar="TOPOLOGY", help="compile for a TPU topology such as v5e:4x4, or `local`")
    parser.add_argument("--find-batch", action="store_true", help="with --plan: the largest batch that fits")
    parser.add_argument("--quick", action="store_true", help="with --plan: in minutes, without the time of a step")
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
    """Trains, plans or exports, and returns the exit status; `overrides` are changes to the configuration.

    Raises:
        ValueError: the arguments do not go together, or a value makes no sense.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)  # what orbax has to say is said by us
    if (arguments.find_batch or arguments.quick or arguments.json) and not arguments.plan:
        raise ValueError("--find-batch, --quick and --json go with --plan")
    config = load_config(arguments.config, overrides)
    if arguments.plan:
        return plan.run(config, arguments.plan, arguments.find_batch, arguments.quick, arguments.json)
    distributed.start(arguments)
    if arguments.export:
        export(config, arguments.workdir, best=arguments.export == "best")
        return 0
    stopped_by = train(config, arguments.workdir, parse_steps(arguments.profile) if arguments.profile else None)
    return 128 + stopped_by if stopped_by else 0
