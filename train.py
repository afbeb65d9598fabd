"""Trains a stage: python train.py --config=configs/tiny/decoder.py --workdir=W [--config.steps=1000] [--export].

The same command goes on where it was stopped. Exit status: 0 when trained, 1 on an error, 128 + the signal's number
(143 for SIGTERM) when it was asked to stop and saved.
"""

import argparse
import logging
import sys
from pathlib import Path

from tvt_jax import compilation_cache
from tvt_jax.config import load_config
from tvt_jax.train.loop import export, train


def main() -> int:
    """Parses the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", required=True, help="a Python file that defines config() -> TrainConfig")
    parser.add_argument("--workdir", required=True, type=Path, help="checkpoints, logs and the model go here")
    parser.add_argument("--export", action="store_true", help="write the model of the newest checkpoint, and end")
    arguments, overrides = parser.parse_known_args()
    compilation_cache.enable()
    logging.getLogger("absl").setLevel(logging.ERROR)  # what orbax has to say is said by us
    try:
        config = load_config(arguments.config, overrides)
        if arguments.export:
            export(config, arguments.workdir)
            return 0
        stopped_by = train(config, arguments.workdir)
        return 128 + stopped_by if stopped_by else 0
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
