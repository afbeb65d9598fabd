"""What eval.py understands."""

import argparse
import logging
from pathlib import Path

from tvt_jax.evaluation.evaluate import run
from tvt_jax.evaluation.metrics import DEFAULT_METRICS, METRICS


def make_parser(description: str) -> argparse.ArgumentParser:
    """The options of eval.py."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--lr", type=Path, help="folder of inputs for the model")
    source.add_argument("--sr", type=Path, help="folder of results, scored as they are")
    parser.add_argument("--hr", type=Path, required=True, help="folder of the truth, matched by file name")
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
    parser.add_argument("--report", type=Path, help="HTML file to write: table, plot, best and worst pictures")
    parser.add_argument("--against", nargs="+", default=(), metavar="NAME=JSON", help="earlier runs for the report")
    parser.add_argument("--save", type=Path, help="folder to write the model's results into")
    return parser


def execute(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Scores, and returns the exit status.

    Args:
        arguments: parsed.
        overrides: what the parser does not know: changes to the configuration of the run that is followed.

    Raises:
        ValueError: the arguments do not go together.
    """
    options = vars(arguments)
    workdir, config, patience = (options.pop(name) for name in ("follow", "config", "patience"))
    if workdir is None:
        if config or overrides:
            raise ValueError(f"{'--config' if config else overrides[0]} goes with --follow")
        return run(**options)
    if not (config and options["lr"]):
        raise ValueError("--follow needs --config, and --lr to enlarge")
    del options["sr"], options["model"]
    if any(options.pop(name) for name in ("report", "against", "save")):
        raise ValueError("--report, --against and --save do not go with --follow, which scores many models")
    from tvt_jax.evaluation.follow import follow  # training's libraries take seconds to load

    logging.getLogger("absl").setLevel(logging.ERROR)  # what orbax has to say is said by us
    return follow(workdir, config, overrides, patience=patience, **options)
