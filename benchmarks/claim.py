"""Is a 4x VAE by transfer worth it? Four arms, several seeds, the same data, the same products: trained and measured.

    python -m benchmarks.claim --out runs/claim [--seeds 3] [--unit 1.4e14]

configs/claim.py says what the arms are. Each stage is a train.py of its own, so the same command goes on where it was
cut off, and nothing that is there is trained or measured again. What each arm's stages may compute is counted in the
products of their steps, so that no arm gets more than another; what they started from is counted apart.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks import report
from benchmarks.cost import costs
from configs.claim import ARMS, STAGES
from configs.places import places
from tvt_jax.data.pipeline import batch_shapes
from tvt_jax.model_folder import read_model
from tvt_jax.train.config import TrainConfig, lengths, load_config
from tvt_jax.train.flops import count_flops
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh

ROOT = Path(__file__).parents[1]
BENCH = ROOT.parent / "shared" / "bench" / "realsr"
SIDE = 512  # of the result that an arm's cost is told for


@dataclass(frozen=True, kw_only=True)
class Options:
    """Arms side by side.

    Attributes:
        out: folder for the runs, the scores and the table.
        seeds: each arm is trained with the seeds 0, 1, and so on, so many of them.
        unit: FLOPs of a stage's share of 1; with 1.4e14 the runs of three seeds take about twelve hours of two cores.
        data: folder of the tiles, photos and text, as tools/pretrain.py lays them out.
        bench: folder with test_LR and test_HR.
    """

    out: Path
    seeds: int = 3
    unit: float = 1.4e14
    data: Path = Path("data")
    bench: Path = BENCH


def measure(options: Options) -> dict[str, list[dict[str, Any]]]:
    """Train what is not trained and measure what is not measured; gives each arm's figures, seed by seed."""
    figures: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        runs = options.out / f"seed_{seed}"
        for arm, stages in STAGES.items():
            seconds = sum(train(f"{arm}/{stage}", share, seed, runs, options) for stage, share in stages.items())
            if arm in ARMS:
                figures[arm].append(
                    score(runs / arm / "adapt" / "model", runs / arm, options) | {"hours": seconds / 3600}
                )
    return figures


def train(name: str, share: float, seed: int, runs: Path, options: Options) -> float:
    """Train a stage of an arm to its end, and give the seconds that it took.

    Raises:
        ValueError: it failed.
    """
    config, workdir = load_config(f"{ROOT}/configs/claim.py:{name}"), runs / name
    wanted = share * options.unit / step_flops(config)
    changes = {"seed": seed, **places(config, options.data, runs, depth=2), **lengths(config, wanted / config.steps)}
    words = [f"--config={ROOT}/configs/claim.py:{name}", f"--workdir={workdir}"]
    words += [f"--config.{key}={value}" for key, value in changes.items()]
    run(name, "train.py", *words)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return max(json.loads(line)["seconds"] for line in lines)


def step_flops(config: TrainConfig) -> float:
    """Count a training step's FLOPs, recomputation included; nothing is read or compiled."""
    program = Program(config, make_mesh(1, 1, jax.devices()[:1]), config.stage.abstract())
    return sum(count_flops(program.trace_step(program.abstract_batch(batch_shapes(config.data))).jaxpr.jaxpr))


def score(model: Path, out: Path, options: Options) -> dict[str, Any]:
    """Score a model on RealSR, and measure its fine structure; what is there is read."""
    scores, structure = out / "scores.json", out / "fine_structure.json"
    if not scores.is_file():
        pairs = ("--lr", options.bench / "test_LR", "--hr", options.bench / "test_HR")
        run(f"{out.name}, scores", "eval.py", "--model", model, *pairs, "--out", scores)
    if not structure.is_file():
        words = ("--model", model, "--bench", options.bench, "--out", structure.with_suffix(""))
        run(f"{out.name}, fine structure", "-m", "benchmarks.fine_structure", *words)
    means = {name: row["mean"] for name, row in json.loads(scores.read_text())["mean"].items()}
    return means | dict(fine_structure(json.loads(structure.read_text()), str(model))) | {"GMACs": gmacs(model)}


def fine_structure(figures: dict[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """Pick capped error rates and recalled characters of all sizes, and texture in the two rings that decide."""
    for where, found in figures["text"].items():
        for measure in ("capped", "recalled"):
            yield f"{measure}, {where}", found["methods"][name][measure]["rates"]["all"]
    correlation = figures["texture"][name]["correlation"]
    yield "texture 1/16-1/8", correlation[-3]
    yield "texture 1/8-1/4", correlation[-2]


def gmacs(model: Path) -> float:
    """Count the multiply-adds of a result of 512x512, in billions."""
    folder = read_model(model)
    assert folder.vae_config and folder.unet_config  # for the type checker: an adapted model has both
    found = costs({"model": folder.vae_config}, {"model": folder.unet_config}, SIDE)
    return sum(sum(cost.products.values()) for cost in found.values()) / 1e9


def run(what: str, *words: object) -> None:
    """Run a step as a command of its own.

    Raises:
        ValueError: it failed.
    """
    print(f"+ {what}", flush=True)
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT)
    if done.returncode:
        raise ValueError(f"{what} ended with exit status {done.returncode}")


def table(figures: dict[str, list[dict[str, Any]]]) -> str:
    """Set a row a figure, a column an arm: mean and deviation over seeds, and the difference to `transfer`."""
    names = list(next(iter(figures.values()))[0])
    rows = []
    for name in names:
        by_arm = {arm: np.array([row[name] for row in seeds]) for arm, seeds in figures.items()}
        cells = []
        for arm, values in by_arm.items():
            spread = f"{values.mean():.4g} ± {values.std(ddof=1):.2g}" if len(values) > 1 else f"{values.mean():.4g}"
            apart = "" if arm == "transfer" else f" ({(values - by_arm['transfer']).mean():+.2g})"
            cells.append(spread + apart)
        rows.append([name, *cells])
    return report.markdown(["", *figures], rows)


def main() -> None:
    """Train, measure, print the table, and write it."""
    options = tyro.cli(Options, description=__doc__)
    figures = measure(options)
    print(table(figures))
    report.write(options.out / "claim", figures, table(figures))


if __name__ == "__main__":
    report.run_as_command(main)
