"""Trains a stage.

python train.py --config=configs/tiny/decoder.py --workdir=W [--config.steps=1000]    the same command goes on
python train.py --config=configs/tiny/decoder.py --workdir=W --export[=best]          a checkpoint's model
python train.py --config=configs/sd21/adapt.py --plan=v5e:4x4                         will it fit, and how fast?

Exit status: 0 when trained, 1 on an error, 128 + the signal's number (143 for SIGTERM) when it was asked to stop and
saved.
"""

import sys

from tvt_jax import compilation_cache
from tvt_jax.train.command import execute, make_parser
from tvt_jax.train.distributed import fail


def main() -> int:
    """Parses the command line and trains."""
    arguments, overrides = make_parser(__doc__).parse_known_args()
    compilation_cache.enable()
    try:
        return execute(arguments, overrides)
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        return fail(error)


if __name__ == "__main__":
    sys.exit(main())
