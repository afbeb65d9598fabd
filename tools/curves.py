"""Draw the training and evaluation curves of a chain of runs: python tools/curves.py RUNS OUT.png"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

# Stage -> what is drawn of its training, and of its evaluation.
STAGES = {
    "vae": (["reconstruction"], ["lpips-alex"]),
    "decoder": (["reconstruction"], ["lpips-alex", "dists"]),
    "encoder": (["reconstruction"], ["lpips-alex", "dists"]),
    "vae_whole": (["reconstruction"], ["lpips-alex", "dists"]),
    "prior": (["noise_error"], ["noise_error"]),
    "adapt_latents": (["latent"], ["lpips-alex", "dists"]),
    "adapt": (["lpips-alex", "dists"], ["lpips-alex", "dists"]),
    "adapt_texture": (["lpips-alex", "dists"], ["lpips-alex", "dists"]),
}


def main(runs: Path, out: Path) -> None:
    """Draw one panel a stage: the training loss as a line, the held-out evaluation as dots."""
    stages = {name: metrics for name, metrics in STAGES.items() if (runs / name / "metrics.jsonl").is_file()}
    figure, axes = plt.subplots(1, len(stages), figsize=(3.2 * len(stages), 2.6), squeeze=False)
    for axis, (name, (trained, evaluated)) in zip(axes[0], stages.items(), strict=True):
        lines = [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]
        for kind, metrics in (("train", trained), ("evaluate", evaluated)):
            for metric in metrics:
                draw(axis, lines, kind, metric)
        minutes = max(line["seconds"] for line in lines) / 60
        axis.set_title(f"{name}: {minutes:.0f} min", fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def draw(axis: plt.Axes, lines: list[dict], kind: str, metric: str) -> None:
    """Draw one metric of one kind of line in the log."""
    points = [(line["step"], line[metric]) for line in lines if line["kind"] == kind and metric in line]
    axis.plot(*zip(*points, strict=True), "o" if kind == "evaluate" else "-", markersize=3, label=f"{kind}: {metric}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
