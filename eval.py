"""Score a model, or any method's results, against the truth: `python eval.py --help`."""

import sys

from tvt_jax.evaluation.command import main

if __name__ == "__main__":
    sys.exit(main())
