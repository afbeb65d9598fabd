"""Train a stage: `python train.py --help`."""

import sys

from tvt_jax.train.command import main

if __name__ == "__main__":
    sys.exit(main())
