"""Score a model, or any method's results, against the truth.

python eval.py [--model MODEL] --lr DIR --hr DIR --out metrics.json [--save DIR]    what the model makes of DIR
python eval.py --sr DIR --hr DIR --out metrics.json                                 results that are there already
python eval.py --follow WORKDIR --config CONFIG --lr DIR --hr DIR --out DIR         a training run, as it goes on

`tvt eval` is the same. The same command goes on where it was stopped. Exit status: 0, or 1 on an error and where a
picture is left out, missing or bad.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tvt_jax import compilation_cache
from tvt_jax.evaluation.evaluate import run
from tvt_jax.evaluation.metrics import DEFAULT_METRICS, METRICS
from tvt_jax.evaluation.pairs import RULE
from tvt_jax.place import check, local_only, place


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, by default this program's, do what it says, and return the exit status."""
    arguments, overrides = _parser().parse_known_args(words)
    compilation_cache.enable()
    Image.MAX_IMAGE_PIXELS = None  # Pillow's guard against hostile uploads; these pictures are the user's own
    try:
        return execute(arguments, overrides)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--lr", type=Path, help="folder of inputs for the model")
    source.add_argument("--sr", type=Path, help="folder of results, scored as they are")
    parser.add_argument("--hr", type=Path, required=True, help="folder of the truth, matched by file name: " + RULE)
    parser.add_argument("--sr-suffix", default="", help="what ends the names of the results or inputs, such as _out")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--model", type=Path, help="model folder; the embedded model if left out")
    model.add_argument("--follow", type=Path, metavar="WORKDIR", help="score a training run's checkpoints as they come")
    parser.add_argument("--config", type=Path, help="the configuration of the run that is followed")
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="MINUTES",
        help="with --follow: without a new checkpoint or line in its log, the run is taken for dead",
    )
    parser.add_argument("--metrics", default=DEFAULT_METRICS, help=f"joined by commas, of {', '.join(METRICS)}")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write; with --follow, a folder of them")
    parser.add_argument("--crop-border", type=int, default=0, help="pixels left out at each side of both pictures")
    parser.add_argument("--force", action="store_true", help="score again what was scored before")
    parser.add_argument("--report", type=Path, help="HTML file to write: table, plot, all pictures")
    parser.add_argument("--against", nargs="+", default=(), metavar="NAME=JSON", help="earlier runs to compare with")
    parser.add_argument("--categories", type=Path, metavar="CSV", help="NAME,CATEGORY a line; folders if left out")
    parser.add_argument("--save", type=Path, help="folder to write the model's results into")
    parser.add_argument("--tile", type=int, help="as of tvt upscale; large pictures go in tiles anyway")
    return parser


def _check_places(
    *, follow: Path | None, model: Path | None, lr: Path | None, sr: Path | None, hr: Path, out: Path, **options: Any
) -> None:
    """Raise ValueError for what is not a path; a run that is followed may lie in a bucket, the model on the hub."""
    if follow:
        check(follow, "gs")
    if model:
        check(model, "hf")
    files = [run.partition("=")[2] for run in options["against"]]
    local_only(lr, sr, hr, out, *(options[name] for name in ("config", "save", "report", "categories")), *files)


def execute(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Score, and return the exit status.

    Args:
        arguments: parsed.
        overrides: what the parser does not know: changes to the configuration of the run that is followed.

    Raises:
        ValueError: the arguments do not go together.
    """
    options = vars(arguments)
    _check_places(**options)
    workdir, config, patience = (options.pop(name) for name in ("follow", "config", "patience"))
    if workdir is None:
        if config or overrides:
            raise ValueError(f"{'--config' if config else overrides[0]} goes with --follow")
        return run(**options)
    if not (config and options["lr"]):
        raise ValueError("--follow needs --config, and --lr to enlarge")
    del options["sr"], options["model"]
    alone = ("report", "against", "save", "categories")
    if given := [name for name in alone if options.pop(name)]:
        raise ValueError(f"--{given[0]} does not go with --follow, which scores many models")
    from tvt_jax.evaluation.follow import follow  # training's libraries take seconds to load

    logging.getLogger("absl").setLevel(logging.ERROR)  # what orbax has to say is said by us
    return follow(place(workdir), config, overrides, patience=patience, **options)
