"""PyTorch checkpoints into model folders and back, and a look into any of their files."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from tyro.conf import Positional

from convert.adapters import name_file
from convert.mapped import printable
from convert.ram import name_ram
from convert.room import ended_by_signals
from convert.to_model import import_osediff, import_pisasr, import_sd, import_tvt
from convert.to_tagger import ReadTagger, read_files, write_ram
from convert.to_torch import export_diffusers, export_tvt
from convert.verify import RESTORATION, compare_outputs, compare_tensors, read_networks
from convert.weights import needed_of_reference, needed_of_sd, needed_of_tvt
from tvt_jax.hub import fetch
from tvt_jax.place import check, local_only


def import_model(
    *,
    out: Path,
    sd: Path | None = None,
    tvt: Path | None = None,
    osediff: Path | None = None,
    pisasr: Path | None = None,
    tokenizer: Path | None = None,
    prompt: str | None = None,
    keep_lora: bool = False,
    ram: Path | None = None,
    dape: Path | None = None,
    tags: Path | None = None,
    thresholds: Path | None = None,
) -> None:
    """Make a model folder of Stable Diffusion 2.1, of TVT, OSEDiff or PiSA-SR on it, or of an export; or of RAM.

    Given together with TVT or OSEDiff, which describe pictures by its tags, RAM goes into `tagger/` within the model.

    Each may also be on the hub: hf://OWNER/NAME, or hf://OWNER/NAME/FOLDER.

    Args:
        out: the folder to write
        sd: Stable Diffusion 2.1, a diffusers folder or v2-1_512-ema-pruned.ckpt or .safetensors; or an export
        tvt: the release's folder of checkpoints (ckp); without it, Stable Diffusion itself is imported
        osediff: OSEDiff's osediff.pkl
        pisasr: PiSA-SR's pisa_sr.pkl
        tokenizer: folder of the tokenizer, for a single file, which has none in it
        prompt: what the model is told to make of every picture, unless asked otherwise; by default what an export has,
            and else that it be clean and of high resolution
        keep_lora: keep the release's LoRA apart, in a folder that PEFT loads, rather than add it to the weights
        ram: the tagger, ram_swin_large_14m.pth
        dape: DAPE.pth, which makes it a tagger of degraded pictures; without it, RAM itself is imported
        tags: ram_tag_list.txt of RAM's repository
        thresholds: ram_tag_list_threshold.txt of it
    """
    local_only(out, tokenizer)
    for source in filter(None, (sd, tvt, osediff, pisasr, ram, dape, tags, thresholds)):
        check(source, "hf")
    methods = {"--tvt": tvt, "--osediff": osediff, "--pisasr": pisasr}
    of_models = {"--sd": sd, **methods, "--tokenizer": tokenizer, "--prompt": prompt, "--keep-lora": keep_lora}
    of_taggers = {"--ram": ram, "--dape": dape, "--tags": tags, "--thresholds": thresholds}
    models, taggers = (
        [name for name, value in x.items() if value not in (None, False)] for x in (of_models, of_taggers)
    )
    if models and taggers and not (sd and (tvt or osediff)):
        raise ValueError(f"{models[0]} is not for taggers, and {taggers[0]} goes with --sd and --tvt or --osediff")
    if not (taggers or sd):
        raise ValueError("give --sd for a model, or --ram, --tags and --thresholds for a tagger")
    if taggers and not (ram and tags and thresholds):
        missing = [name for name, value in of_taggers.items() if value is None and name != "--dape"]
        raise ValueError(f"a tagger is imported from three files, and {' and '.join(missing)} is missing")
    tagger = _read_tagger(ram, tags, thresholds, dape) if ram and tags and thresholds else None
    if sd:
        _import_model(sd, methods, out, tokenizer, prompt, keep_lora, tagger)
    elif tagger:
        write_ram(tagger, out)
    if tagger:
        print(tagger.said)
    print(f"wrote {out}")


def _read_tagger(ram: Path, tags: Path, thresholds: Path, dape: Path | None) -> ReadTagger:
    return read_files(fetch(ram), tags=fetch(tags), thresholds=fetch(thresholds), dape=dape and fetch(dape))


def _import_model(
    sd: Path,
    methods: dict[str, Path | None],
    out: Path,
    tokenizer: Path | None,
    prompt: str | None,
    keep_lora: bool,
    tagger: ReadTagger | None,
) -> None:
    given = {name: path for name, path in methods.items() if path}
    if keep_lora and list(given) != ["--tvt"]:
        raise ValueError("--keep-lora is for --tvt: Stable Diffusion has no LoRA")
    options: dict[str, Any] = {"tokenizer": tokenizer, "prompt": prompt}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are models of their own: import one at a time")
    sd, notes = fetch(sd, partial(needed_of_sd, networks="--tvt" not in given)), []
    match [*given.items()]:
        case [("--tvt", tvt)]:
            notes = import_tvt(fetch(tvt, needed_of_tvt), sd, out, keep_lora=keep_lora, tagger=tagger, **options)
        case [("--osediff", osediff)]:
            notes = import_osediff(fetch(osediff), sd, out, tagger=tagger, **options)
        case [("--pisasr", pisasr)]:
            notes = import_pisasr(fetch(pisasr), sd, out, **options)
        case _:
            notes = import_sd(sd, out, **options)
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def export(
    *,
    model: Path,
    out: Path,
    format: Literal["diffusers", "tvt"] = "diffusers",
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
) -> None:
    """Write a model folder as one that runs in stock diffusers, or as the files of the TVT release.

    Args:
        model: a model folder, by import, or by train.py --export from a checkpoint of any stage
        out: the folder to write, which holds nothing yet
        format: the release's files are float32
        dtype: type of the weights
    """
    local_only(model, out)
    if format == "tvt":
        if dtype != "float32":
            raise ValueError(f"--dtype {dtype} is for diffusers: the release's files are float32")
        export_tvt(model, out)
    else:
        export_diffusers(model, out, dtype)
    print(f"wrote {out}")


def verify(
    *,
    model: Path,
    reference: Path,
    sd: Path | None = None,
    photo: Path | None = None,
    side: int = 256,
    tolerance: float = 1e-4,
    pixel_tolerance: float = 2e-3,
) -> int:
    """Compare a model folder with the PyTorch files it came from: every tensor, and the networks' results in both.

    Args:
        model: the model folder
        reference: the TVT release's folder of checkpoints, a diffusers folder, or OSEDiff's or PiSA-SR's file
        sd: Stable Diffusion, as it was imported with that file
        photo: compare the results on this photo too, for which PyTorch and diffusers must be installed
        side: side of the middle of the photo that is taken, in pixels
        tolerance: largest difference allowed between the results of a network, in standard deviations
        pixel_tolerance: the same between restored pixels, in [-1, 1], which have gone through all the networks
    """
    local_only(model, photo)
    for source in filter(None, (reference, sd)):
        check(source, "hf")
    networks = read_networks(fetch(reference, needed_of_reference), sd and fetch(sd, needed_of_sd))
    differs = False
    for difference in compare_tensors(model, networks):
        print(difference)
        differs |= difference.largest > 0
    for difference in compare_outputs(model, networks, photo, side) if photo else ():
        print(difference)
        in_pixels = difference.what == RESTORATION
        differs |= difference.largest > pixel_tolerance if in_pixels else difference.relative > tolerance
    print("they differ" if differs else "they agree")
    return 1 if differs else 0


def inspect(file: Positional[Path], /) -> None:
    """List the tensors of a .safetensors, .ckpt, .pkl, .bin, .pt or .pth file, and name OSEDiff, PiSA-SR, RAM and DAPE.

    Nothing in it is run.

    Args:
        file: the file, or the index of its shards
    """
    local_only(file)
    kind, tensors = name_file(file)
    for name, tensor in tensors.items():
        print(f"{printable(name)}  {'x'.join(map(str, tensor.shape)) or 'scalar'}  {tensor.dtype}")
    print(f"{len(tensors)} tensors, {sum(tensor.size for tensor in tensors.values()):,} numbers")
    if kind:
        print(f"this is {kind.name}'s file: import it with {kind.option} and --sd")
    elif tagger := name_ram(tensors):
        print(f"this is {tagger}")


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, by default this program's, do what it says, and return the exit status."""
    commands: dict[str, Callable[..., Any]] = {
        "import": import_model,
        "export": export,
        "verify": verify,
        "inspect": inspect,
    }
    try:
        with ended_by_signals():
            status = tyro.extras.subcommand_cli_from_dict(commands, prog="tvt convert", description=__doc__, args=words)
        return status or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
