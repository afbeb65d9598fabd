"""Scores a model, or any method's results, against the truth.

python eval.py [--model MODEL] --lr DIR --hr DIR --out metrics.json [--save DIR]    what the model makes of DIR
python eval.py --sr DIR --hr DIR --out metrics.json                                 results that are there already
python eval.py --follow WORKDIR --config CONFIG --lr DIR --hr DIR --out DIR         a training run, as it goes on

The same command goes on where it was stopped.
"""

import sys

from tvt_jax import compilation_cache
from tvt_jax.evaluation.command import execute, make_parser


def main() -> int:
    """Parses the command line and scores; returns 1 if a picture is missing or bad."""
    arguments, overrides = make_parser(__doc__).parse_known_args()
    compilation_cache.enable()
    try:
        return execute(arguments, overrides)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
