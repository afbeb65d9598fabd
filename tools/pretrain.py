"""Train the embedded model from nothing: fetch, prepare, every stage, the model in the package, curves, card.

    python tools/pretrain.py [--budget HOURS] [--batches FACTOR] [--data DIR] [--runs DIR] [--out MODEL]

The same command goes on where it was cut off, whenever that was: what is done is not done again. All that changes over
time stands in configs/tiny/; `--budget` scales the steps of every stage, which are meant for about twelve hours of two
cores. For a GPU, `--batches 16` makes every batch so many times as large, and `--workers` asks for processes that make
them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from configs.places import places
from tools.model_card import write_card
from tvt_jax.files import write_whole
from tvt_jax.train.config import lengths, load_config

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("vae", "decoder", "encoder", "vae_whole", "prior", "adapt_latents", "adapt", "adapt_texture")
HOURS = 12.0  # that the steps in configs/tiny/ take on two cores


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long, and in batches how large.

    Attributes:
        budget: hours of two cores that the steps are scaled to.
        batches: factor on the images of each batch.
    """

    budget: float = HOURS
    batches: int = 1

    def __str__(self) -> str:
        return f"--budget {self.budget:g} --batches {self.batches}"


def pretrain(data: Path, runs: Path, out: Path, length: Length, workers: int) -> None:
    """Do what is not done yet.

    Raises:
        ValueError: the runs were begun with another length.
        subprocess.CalledProcessError: a step failed; what it had to say is printed already.
    """
    require_length(runs, length)
    fetch(data)
    for stage in STAGES:
        words = f"--config=configs/tiny/{stage}.py", f"--workdir={runs / stage}", f"--config.data.workers={workers}"
        run("train.py", *words, *changes(stage, data, runs, length))
    run("tools/embed_model.py", runs / STAGES[-1] / "model", out)
    run("tools/curves.py", runs, out / "curves.png")
    write_card(data, runs, out, STAGES, str(length))


def require_length(runs: Path, length: Length) -> None:
    """Write down the length that the runs were begun with, or raise ValueError where it was another."""
    path = runs / "length.json"
    if path.is_file() and (begun := Length(**json.loads(path.read_text()))) != length:
        raise ValueError(f"{runs} was begun with {begun}: go on with that, or choose another --runs")
    write_whole(path, json.dumps(asdict(length)))


def fetch(data: Path) -> None:
    """Fetch photos, cut them into tiles, and draw text, as far as they are not there."""
    if not (data / "photos" / "manifest.json").is_file():
        run("tools/fetch_photos.py", data / "photos")
    if not (data / "text" / "text.json").is_file():
        run("tools/fetch_text.py", data / "text", "--photos", data / "photos")
    photos, tiles = data / "photos" / "train", data / "tiles"
    run("-m", "tvt_jax.data.prepare", "--images", photos, "--out", tiles, "--crop", 320, "--stride", 256)


def changes(stage: str, data: Path, runs: Path, length: Length) -> Iterator[str]:
    """Give what differs from the stage's configuration: where data and models lie, and how long it trains."""
    config = load_config(ROOT / "configs" / "tiny" / f"{stage}.py")
    scaled = lengths(config, length.budget / HOURS) | {"data.batch": config.data.batch * length.batches}
    for name, value in {**places(config, data, runs), **scaled}.items():
        yield f"--config.{name}={value}"


def run(*words: object) -> None:
    """Run a step as a command of its own; a child that was asked to stop stops this too."""
    command = [sys.executable, *map(str, words)]
    print("+ python " + " ".join(command[1:]), flush=True)
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=HOURS, metavar="HOURS", help="of two cores, about")
    parser.add_argument("--batches", type=int, default=1, metavar="FACTOR", help="on the images of each batch")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--out", type=Path, default=ROOT / "tvt_jax" / "pretrained" / "tiny")
    options = parser.parse_args()
    if not options.budget > 0:
        parser.error(f"--budget {options.budget:g} must be positive")
    if options.batches < 1:
        parser.error(f"--batches {options.batches} must be at least 1")
    data, runs, out = (path.resolve() for path in (options.data, options.runs, options.out))
    try:
        pretrain(data, runs, out, Length(budget=options.budget, batches=options.batches), options.workers)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)


if __name__ == "__main__":
    main()
