"""Pictures of two folders that belong together, and those that are left out."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from PIL import Image

from tvt_jax.data.sources import IMAGE_SUFFIXES, one_line
from tvt_jax.inference.images import READABLE

Pairs = dict[str, tuple[Path, Path]]

RULE = (
    "folder and name must agree without ending and without a last _LR, _SR, _HR or _GT; a last x2, x3, x4 or x8, or "
    "such a number right after _LR or _SR, may stand in the picture's name alone"
)
_READ = READABLE | IMAGE_SUFFIXES
_NOT_READ = frozenset({".dng", ".exr", ".hdr", ".heic", ".heif", ".jxl", ".mat", ".npy", ".npz", ".raw"})
_ROLE = re.compile(r"[_-](?:LR|SR|HR|GT)(\d*)$", re.IGNORECASE)
_SCALED_ROLE = re.compile(r"[_-](?:LR|SR|HR|GT)[2348]$", re.IGNORECASE)
_SCALE = re.compile(r"(?:[_-](?:LR|SR)|(?:[_-](?:LR|SR))?[_-]?x)[2348]$", re.IGNORECASE)


def find_pairs(
    images: Path, references: Path, suffix: str = "", skip: Collection[Path] = ()
) -> tuple[Pairs, dict[str, str]]:
    """Match the pictures of two folders, and of the folders within them, by `RULE`.

    Args:
        images: folder of results or inputs.
        references: folder of the truth.
        suffix: what ends every picture's name before the ending, such as "_out"; left out before names are compared.
        skip: folders within that are passed by; each of the two passes the other by in any case.

    Returns:
        (image, reference) by name, and by name why a picture, or a folder, is left out.

    Raises:
        FileNotFoundError: one of them is not a folder.
        ValueError: no two pictures belong together.
    """
    found, left_out = _list(images, [references, *skip])
    truths, truths_left_out = _list(references, [images, *skip])
    named: dict[str, list[Path]] = defaultdict(list)
    for file in truths:
        named[_name(file.relative_to(references).parent, file.stem)].append(file)
    short = _shorten(named)
    claimed: dict[str, list[Path]] = defaultdict(list)
    for file in found:
        claimed[_partner(file.relative_to(images), suffix, named)].append(file)
    pairs: Pairs = {}
    for name in sorted(claimed.keys() | named.keys()):
        if reason := _problem(claimed[name], named.get(name, []), images, references):
            left_out[short.get(name, name)] = reason
        else:
            pairs[short[name]] = (claimed[name][0], named[name][0])
    if not pairs:
        examples = " and ".join(str(next(iter(files), "none")) for files in (found, truths))
        raise ValueError(f"no picture in {images} has the name of one in {references}, such as {examples}: {RULE}")
    return pairs, left_out | truths_left_out


def _name(folder: Path, stem: str) -> str:
    """Leave out the role; a number after it stays: `img_SR1` is no result for `img_HR2`."""
    return (folder / (_ROLE.sub(lambda role: f"_{role[1]}" if role[1] else "", stem) or stem)).as_posix()


def _shorten(named: Mapping[str, list[Path]]) -> dict[str, str]:
    """Choose the names that people see: `Canon_001` for `Canon_001_LR4` where no other truth would have it."""
    short = {
        name: _name(Path(name).parent, _SCALED_ROLE.sub("", files[0].stem) or files[0].stem)
        for name, files in named.items()
    }
    counts = Counter([*short.values(), *named])
    return {name: shown if shown == name or counts[shown] == 1 else name for name, shown in short.items()}


def _partner(file: Path, suffix: str, truths: Collection[str]) -> str:
    """Return the name of the truth that a picture belongs to, or its own where there is none."""
    if not file.stem.endswith(suffix):
        return file.as_posix()
    stem = file.stem.removesuffix(suffix) or file.stem
    own = _name(file.parent, stem)
    shorter = [_SCALE.sub("", longer) for longer in (stem, Path(own).name)]
    names = [own, *(_name(file.parent, stem) for stem in shorter if stem)]
    return next((name for name in names if name in truths), own)


def _problem(found: list[Path], truths: list[Path], images: Path, references: Path) -> str:
    for files in (found, truths):
        if len(files) > 1:
            return f"{' and '.join(map(str, files))} have the same name: keep one of them"
    if not (found and truths):
        return f"has no partner in {images if truths else references}"
    return ""


def _list(root: Path, skip: Collection[Path]) -> tuple[list[Path], dict[str, str]]:
    """List the pictures below a folder, and why others are left out; what is hidden is passed by."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    Image.init()
    known, readable = _NOT_READ | Image.EXTENSION.keys(), " ".join(sorted(_READ))
    files, left_out = list[Path](), dict[str, str]()
    for file, problem in _walk(root, {path.resolve() for path in skip} - {root.resolve()}):
        is_read = file.suffix.lower() in _READ
        if not problem and is_read:
            problem = _unusable(file)
        if not problem and is_read:
            files.append(file)
        elif problem or file.suffix.lower() in known:
            left_out[one_line(file)] = problem or f"is of a format that is not read, use one of {readable}"
    return sorted(files), left_out


def _walk(root: Path, skip: Collection[Path]) -> Iterator[tuple[Path, str]]:
    """Give the files below a folder, and the folders that can't be gone into with the reason why."""
    closed: list[Path] = []
    for folder, below, names in os.walk(root, onerror=lambda error: closed.append(Path(error.filename))):
        below[:] = [name for name in sorted(below) if name[0] != "." and Path(folder, name).resolve() not in skip]
        links = [Path(folder, name) for name in below if Path(folder, name).is_symlink()]
        yield from ((link, "is a link to a folder, which is not followed") for link in links)
        yield from ((Path(folder, name), "") for name in names if not name.startswith("."))
    yield from ((path, "can't be looked into") for path in closed)


def _unusable(file: Path) -> str:
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in str(file)):
        return "has a name that is no text of one line: rename it"
    return "" if file.is_file() else "is no file, or leads to none"
