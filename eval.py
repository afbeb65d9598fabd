"""Scores a model, or any method's results, against the truth.

python eval.py [--model MODEL] --lr DIR --hr DIR --out metrics.json [--save DIR]    what the model makes of DIR
python eval.py --sr DIR --hr DIR --out metrics.json                                 results that are there already
"""

import argparse
import sys
from pathlib import Path

from tvt_jax import compilation_cache
from tvt_jax.evaluation import DEFAULT_METRICS, METRICS, run


def main() -> int:
    """Parses the command line and scores; returns 1 if a picture is missing or bad."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--lr", type=Path, help="folder of inputs for the model")
    source.add_argument("--sr", type=Path, help="folder of results, scored as they are")
    parser.add_argument("--hr", type=Path, required=True, help="folder of the truth, matched by file name")
    parser.add_argument("--model", type=Path, help="model folder; the embedded model if left out")
    parser.add_argument("--metrics", default=DEFAULT_METRICS, help=f"joined by commas, of {', '.join(METRICS)}")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--report", type=Path, help="HTML file to write: table, plot, best and worst pictures")
    parser.add_argument("--against", nargs="+", default=(), metavar="NAME=JSON", help="earlier runs for the report")
    parser.add_argument("--save", type=Path, help="folder to write the model's results into")
    compilation_cache.enable()
    try:
        return run(**vars(parser.parse_args()))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
