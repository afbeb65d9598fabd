"""Trains a stage: python train.py --config=configs/tiny/decoder.py --workdir=W [--config.steps=1000] [--export].

python train.py --config=configs/sd21/adapt.py --plan=v5e:4x4    whether it fits there, and how fast it will be

The same command goes on where it was stopped. Exit status: 0 when trained, 1 on an error, 128 + the signal's number
(143 for SIGTERM) when it was asked to stop and saved.
"""

import argparse
import logging
import sys
from pathlib import Path

from tvt_jax import compilation_cache
from tvt_jax.config import load_config
from tvt_jax.train import distributed, plan
from tvt_jax.train.loop import export, train
from tvt_jax.train.profile import parse_steps


def main() -> int:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, help="a Python file that defines config() -> TrainConfig")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--workdir", type=Path, help="checkpoints, logs and the model go here")
    what.add_argument("--plan", metavar="TOPOLOGY", help="compile for a TPU topology such as v5e:4x4, or `local`")
    parser.add_argument("--find-batch", action="store_true", help="with --plan: the largest batch that fits")
    parser.add_argument("--json", action="store_true", help="with --plan: print JSON")
    parser.add_argument("--export", action="store_true", help="write the model of the newest checkpoint, and end")
    parser.add_argument("--profile", metavar="FIRST:LAST", help="trace these steps into WORKDIR/profile")
    distributed.add_arguments(parser)
    arguments, overrides = parser.parse_known_args()
    compilation_cache.enable()
    logging.getLogger("absl").setLevel(logging.ERROR)  # what orbax has to say is said by us
    try:
        config = load_config(arguments.config, overrides)
        if arguments.plan:
            return plan.run(config, arguments.plan, arguments.find_batch, arguments.json)
        distributed.start(arguments)
        if arguments.export:
            export(config, arguments.workdir)
            return 0
        profiled = parse_steps(arguments.profile) if arguments.profile else None
        stopped_by = train(config, arguments.workdir, profiled)
        return 128 + stopped_by if stopped_by else 0
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
