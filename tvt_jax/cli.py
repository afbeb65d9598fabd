"""Real-world super-resolution in one step.

tvt upscale     pictures, or whole folders of them
tvt serve       a page to upscale them on
tvt train       a stage
tvt eval        a model, or any method's results
tvt convert     PyTorch checkpoints into model folders, and back
tvt export-program    a model as one program that runs without this package

`tvt COMMAND --help` tells what each understands.
"""

import argparse
import importlib
import sys

from tvt_jax import __version__

# Modules with main(words) -> exit status, imported when asked for: jax takes a second to load, and --help shouldn't.
COMMANDS = {
    "upscale": "tvt_jax.inference.command",
    "serve": "tvt_jax.serve.command",
    "train": "tvt_jax.train.command",
    "eval": "tvt_jax.evaluation.command",
    "convert": "convert.__main__",
    "export-program": "tvt_jax.inference.export",
}


def main() -> None:
    """Run the `tvt` command and exit: 0 if all went well, 1 after an error, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="tvt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"tvt {__version__}")
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(sys.argv[1:2]).command
    sys.argv = [f"tvt {command}", *sys.argv[2:]]  # what each names itself by in its help
    sys.exit(importlib.import_module(COMMANDS[command]).main())


if __name__ == "__main__":
    main()
