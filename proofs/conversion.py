"""Weights in and out at full size: `python -m proofs.conversion --work DIR --photo PHOTO`.

Writes random checkpoints in the published files' formats (8 GB), imports them, takes them out again and in again,
compares the networks' results with PyTorch's, and upscales the photo; prints times, memory and differences.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image

from benchmarks import report
from convert.verify import middle
from proofs.full_size import write_missing
from tvt_jax.inference.networks import apply
from tvt_jax.model_folder import read_model
from tvt_jax.models.vae import AutoencoderKL
from tvt_jax.pixels import to_uint8


@dataclass(frozen=True, kw_only=True)
class Options:
    """Weights in and out at full size.

    Attributes:
        work: a folder for the checkpoints, taken where they are there; 22 GB at one time, 6 GB at the end.
        photo: a photo of 512x512 or more.
        side: side in pixels of its middle that the networks are compared on.
    """

    work: Path
    photo: Path
    side: int = 256


@dataclass(frozen=True)
class Run:
    """What a command took, and said.

    Attributes:
        seconds: wall-clock time.
        held: most memory of its own at any time, in GB; mapped files do not count.
        resident: most memory in all, mapped files with it, in GB.
        said: its output.
    """

    seconds: float
    held: float
    resident: float
    said: str


def run(*command: object) -> Run:
    """Run a Python module in a process of its own and watch its memory.

    Raises:
        ValueError: the module failed; the message ends with what it printed.
    """
    begin, peaks = time.monotonic(), {"RssAnon": 0, "VmHWM": 0}
    words = [sys.executable, "-m", *map(str, command)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while process.poll() is None:
            for name, kilobytes in _memory(process.pid):
                peaks[name] = max(peaks[name], kilobytes)
            time.sleep(0.05)
        seconds, said = time.monotonic() - begin, process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise ValueError(f"{' '.join(words[2:])} failed:\n{said}")
    return Run(seconds, peaks["RssAnon"] / 1e6, peaks["VmHWM"] / 1e6, said)


def _memory(pid: int) -> Iterator[tuple[str, int]]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, _, value = line.partition(":")
        if name in ("RssAnon", "VmHWM"):
            yield name, int(value.split()[0])


def same_files(a: Path, b: Path) -> bool:
    """Tell whether two model folders are equal to the bit, but for their cards, which name where they came from."""
    files = {file.relative_to(a) for file in a.rglob("*") if file.is_file() and file.name != "tvt.json"}
    others = {file.relative_to(b) for file in b.rglob("*") if file.is_file() and file.name != "tvt.json"}
    return files == others and all(_same(a / file, b / file) for file in files)


def _same(a: Path, b: Path) -> bool:
    chunk = 1 << 24
    with a.open("rb") as left, b.open("rb") as right:
        while True:
            x, y = left.read(chunk), right.read(chunk)
            if x != y:
                return False
            if not x:
                return True


def bfloat16_psnr(model: Path, image: np.ndarray) -> float:
    """Measure the PSNR in dB of a VAE's reconstruction in bfloat16 against float32.

    The peak is the spread of the float32 result, 2 for a photo in [-1, 1], so that a network of random weights, whose
    results are small, is not flattered.
    """
    folder = read_model(model)
    results = []
    for dtype in (jnp.float32, jnp.bfloat16):
        vae = AutoencoderKL(folder.vae_config, dtype=dtype)
        latent = apply(vae, folder.vae, image, method="encode").mean
        results.append(np.asarray(apply(vae, folder.vae, latent, method="decode"), np.float64))
    return float(20 * np.log10(np.ptp(results[0]) / np.sqrt(np.square(results[1] - results[0]).mean())))


def measure(options: Options) -> Iterator[tuple[str, str]]:
    """Do it all; yield what was measured, and the figure. Folders go as soon as they are not needed."""
    (sd, tvt), came, model = write_missing(options.work), options.work / "came", options.work / "model"
    for name, kind, words in (
        ("tvt", "tvt", ["--tvt", tvt, "--sd", sd, "--keep-lora"]),
        ("sd", "diffusers", ["--sd", sd]),
    ):
        yield from _imported(f"import, {name}", *words, "--out", came)
        yield _round_trip(came, name, kind, words)
    yield from _verified("SD", came, sd, options)
    shutil.rmtree(came)
    yield from _imported("import of the release", "--tvt", tvt, "--sd", sd, "--out", model)
    yield from _verified("TVT", model, tvt, options)
    photo = middle(options.photo, 512)
    yield "bfloat16 VAE-D4 against float32, full size, random weights", f"{bfloat16_psnr(model, photo):.1f} dB"
    yield from _upscaled(options, model)
    shutil.rmtree(model)


def _imported(what: str, *words: object) -> Iterator[tuple[str, str]]:
    done = run("convert", "import", *words)
    yield what, f"{done.seconds:.0f} s, {done.held:.2f} GB of its own, {done.resident:.2f} GB with the mapped files"


def _verified(name: str, model: Path, reference: Path, options: Options) -> Iterator[tuple[str, str]]:
    words = ("--model", model, "--reference", reference, "--photo", options.photo, "--side", options.side)
    for line in run("convert", "verify", *words).said.splitlines():
        what, found, figure = line.partition(": largest difference ")
        if found:
            yield f"{name}: {what}", figure


def _round_trip(came: Path, name: str, kind: str, words: list[object]) -> tuple[str, str]:
    gone, again = came.with_name("gone"), came.with_name("again")
    run("convert", "export", "--model", came, "--out", gone, "--format", kind)
    back = {"diffusers": ["--sd", gone], "tvt": ["--tvt", gone, *words[2:]]}[kind]
    run("convert", "import", *back, "--out", again)
    equal = same_files(came, again)
    shutil.rmtree(gone)
    shutil.rmtree(again)
    return f"import, export --format {kind}, import, {name}", "equal to the bit" if equal else "DIFFERENT"


def _upscaled(options: Options, model: Path) -> Iterator[tuple[str, str]]:
    source = options.work / "small.png"
    Image.fromarray(to_uint8(middle(options.photo, 128)[0])).save(source)
    for dtype in ("float32", "bfloat16"):
        words = ("--model", model, "--dtype", dtype, "--prompt", "a sharp photo")
        done = run("tvt_jax.cli", "upscale", source, options.work / f"{dtype}.png", *words)
        yield f"tvt upscale, 128x128 to 512x512, {dtype}", f"{done.seconds:.0f} s, {done.resident:.1f} GB"


def main() -> None:
    """Print the table of docs/conversion.md as it is measured."""
    print(report.markdown(("", "measured"), []), flush=True)
    for what, figure in measure(tyro.cli(Options)):
        print(f"| {what} | {figure} |", flush=True)


if __name__ == "__main__":
    report.run_as_command(main)
