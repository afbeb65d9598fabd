"""What people write comes in, goes out, and loads there again: `python -m proofs.conversion_versions --work DIR`.

For each of three generations of diffusers, transformers and PEFT it makes an environment, lets it save a small Stable
Diffusion in every form it knows, imports each, compares the results of the networks, exports, and lets the same
environment load that strictly and compare again. Prints one table; with --keep, keeps the files for the tests.
"""

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import report
from convert import tvt
from convert.to_model import import_sd, import_tvt
from convert.to_torch import export_diffusers
from convert.verify import largest
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.model_folder import read_model
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.tokenizer import Tokenizer
from tvt_jax.unet_lora import LORA

SIDE = Path(__file__).parent / "torch_side.py"
PROMPT = "A photo, 4 km: don't!"
STEP = 1
_TORCH = "torch==2.13.0"
ENVIRONMENTS = {
    "diffusers-0.25": (
        *(_TORCH, "diffusers==0.25.0", "transformers==4.36.2", "peft==0.7.1"),
        *("huggingface_hub==0.20.3", "accelerate==0.25.0", "numpy<2"),
    ),
    "diffusers-0.35": (_TORCH, "diffusers==0.35.2", "transformers==4.57.6", "peft==0.17.1"),
    "diffusers-0.42": (_TORCH, "diffusers==0.42.1", "transformers==5.24.0", "peft==0.21.2"),
}
_SMALL_D4 = AutoencoderKLConfig(block_out_channels=(4, 4), norm_num_groups=2, layers_per_block=1, mid_block=False)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What people's versions write.

    Attributes:
        work: a folder for the environments (5 GB) and what they write; environments that are there are taken.
        keep: a folder for what they wrote, packed, which the tests read.
    """

    work: Path
    keep: Path | None = None


@contextmanager
def small_release() -> Iterator[None]:
    """Let the release's VAE be as small as the one in the files."""
    published, tvt.VAE_D4 = tvt.VAE_D4, _SMALL_D4
    try:
        yield
    finally:
        tvt.VAE_D4 = published


def import_form(written: Path, form: str, out: Path, *, keep_lora: bool = False) -> Path:
    """Import one of the forms that an environment wrote, or its release, and give the file of its results."""
    if form == "release":
        with small_release():
            import_tvt(written / form, written / "safetensors", out, prompt=PROMPT, keep_lora=keep_lora)
        return written / "release.npz"
    import_sd(written / form, out, prompt=PROMPT)
    return written / "results.npz"


def differences(model: Path, expected: Path) -> dict[str, float]:
    """Compare the networks' results with those in the file; of the release's VAE, which is another one, none."""
    with np.load(expected) as file:
        wanted: dict[str, np.ndarray] = dict(file)
    folder = read_model(model)
    ours = Upscaler(replace(folder, card=replace(folder.card, posterior="mean")))
    if ours.unet is None or folder.prompt_embedding is None:
        raise ValueError(f"{model} has no UNet or no prompt")
    image, latent = (wanted[name].transpose(0, 2, 3, 1) for name in ("image", "latent"))
    found = {"text": folder.prompt_embedding[None], "unet": ours.unet(latent, np.array([STEP]))}
    if "release" not in expected.name:
        found |= {"encode": ours.vae.encode(image).mean, "decode": ours.vae.decode(latent)}
    found["tokens"] = np.asarray(Tokenizer(model / "tokenizer")(PROMPT))
    return {name: largest(_channels_first(np.asarray(x)), wanted[name]) for name, x in found.items()}


def _channels_first(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array


def make_environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make a virtual environment, where it is not there yet; give its Python."""
    python = folder / "bin" / "python"
    if not (folder / "made").is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "made").touch()
    return python


def run_side(python: Path, *words: object) -> dict[str, Any]:
    """Run the PyTorch half and give what it prints last.

    Raises:
        ValueError: it failed; the message ends with what it said.
    """
    done = subprocess.run([python, SIDE, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"{python} failed: {done.stderr.strip().splitlines()[-1]}")
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if words[0] != "write" else {}


def measure(options: Options, name: str) -> Iterator[tuple[str, ...]]:
    """Take one environment through it all, and yield the rows of the table."""
    python = make_environment(options.work / name, ENVIRONMENTS[name])
    written = options.work / f"{name}-wrote"
    if not written.exists():
        run_side(python, "write", written)
    forms: dict[str, str] = json.loads((written / "versions.json").read_text())["forms"]
    for form in [*(form for form, outcome in forms.items() if outcome == "written"), "release", "release, LoRA apart"]:
        yield (name, form, *_there_and_back(python, written, form, options.work / f"{name}-{form}"))
    yield from ((name, form, outcome, "") for form, outcome in forms.items() if outcome != "written")
    if options.keep:
        pack(written, options.keep / f"{name}.tar.xz")


def _there_and_back(python: Path, written: Path, form: str, work: Path) -> tuple[str, str]:
    apart = "apart" in form
    expected = import_form(written, form.partition(",")[0], work / "model", keep_lora=apart)
    ours = max(differences(work / "model", expected).values())
    export_diffusers(work / "model", work / "out")
    if "release" in form:
        return f"{ours:.1e}", _release_again(python, work, expected, apart)
    theirs = run_side(python, "check", work / "out", expected)
    return f"{ours:.1e}", f"{max(theirs.values()):.1e}"


def _release_again(python: Path, work: Path, expected: Path, apart: bool) -> str:
    """Let the UNet be loaded, with the LoRA in it or by PEFT from its folder."""
    unet = work / "model" if apart else work / "out"
    words = (work / "model" / LORA,) if apart else ()
    return f"{run_side(python, 'check-unet', unet, expected, *words)['unet']:.1e}"


def pack(folder: Path, file: Path) -> None:
    """Pack a folder, the same each time."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
        return info

    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:xz", preset=9) as archive:
        archive.add(folder, ".", filter=plain)


def main() -> None:
    """Print the table of docs/conversion.md as it is measured."""
    options = tyro.cli(Options)
    columns = ("written by", "as", "imported: largest difference", "exported and loaded there, strictly")
    print(report.markdown(columns, []), flush=True)
    for name in ENVIRONMENTS:
        for row in measure(options, name):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    report.run_as_command(main)
