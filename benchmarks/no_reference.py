"""MUSIQ, MANIQA, CLIPIQA and FID by pyiqa, for those who have a network: it downloads their weights.

pip install 'tvt-jax[pyiqa]'
python -m benchmarks.no_reference --sr DIR --hr DIR --out pyiqa.json
python eval.py --sr DIR --hr DIR --out m.json --report report.html --against pyiqa=pyiqa.json
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tyro
from tqdm import tqdm

from benchmarks import report
from tvt_jax.evaluation.pairs import Pairs, find_pairs
from tvt_jax.evaluation.scores import Evaluation, format_table, write_evaluation

# What pyiqa calls them in the published tables of one-step methods (OSEDiff's log among them).
OF_ONE = {"musiq": "musiq", "maniqa": "maniqa-pipal", "clipiqa": "clipiqa"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Results to score by metrics without a reference, and as a set by FID.

    Attributes:
        sr: folder of results.
        hr: folder of the truth, matched by file name; only FID looks at it.
        out: JSON file of the form that eval.py writes.
    """

    sr: Path
    hr: Path
    out: Path


def measure(pairs: Pairs, pyiqa: Any) -> Evaluation:
    """Score each result, and all results against all truths by FID."""
    metrics = {name: pyiqa.create_metric(called) for name, called in OF_ONE.items()}
    images = {
        key: {name: float(metric(str(result)).item()) for name, metric in metrics.items()}
        for key, (result, _) in tqdm(pairs.items(), unit="image")
    }
    return Evaluation(images=images, together={"fid": distance(pairs, pyiqa)})


def distance(pairs: Pairs, pyiqa: Any) -> float:
    """Compute FID of two folders that hold the pairs and nothing else: pyiqa takes whole folders."""
    with TemporaryDirectory() as folder:
        sides = [Path(folder) / side for side in ("sr", "hr")]
        for i, side in enumerate(sides):
            side.mkdir()
            for key, pair in pairs.items():
                (side / f"{key.replace('/', '_')}{pair[i].suffix}").symlink_to(pair[i].resolve())
        return float(pyiqa.create_metric("fid")(*map(str, sides)))


def main() -> None:
    """Score, print the means, and write the file."""
    options = tyro.cli(Options)
    pairs, alone = find_pairs(options.sr, options.hr)
    if alone:
        key, why = next(iter(alone.items()))
        raise ValueError(f"{key} {why}: FID compares two whole sets")
    try:
        pyiqa = importlib.import_module("pyiqa")
    except ImportError as error:
        raise ImportError("MUSIQ, MANIQA, CLIPIQA and FID need pyiqa: pip install 'tvt-jax[pyiqa]'") from error
    evaluation = measure(pairs, pyiqa)
    write_evaluation(options.out, evaluation)
    print(format_table(evaluation))


if __name__ == "__main__":
    report.run_as_command(main)
