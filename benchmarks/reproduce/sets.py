"""The test sets as they are distributed: which files belong together, and where the text on them stands."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image

from benchmarks.realsr import SCALE

PHOTOS = ("realsr", "drealsr", "div2k")  # pairs of 128 and 512 pixels
REAL_CE, OMNIDOC = "real-ce", "omnidoc"
SETS = (*PHOTOS, REAL_CE, OMNIDOC)

_FOLDERS = (("test_LR", "test_HR"), ("lq", "gt"))  # StableSR's names for the crops that all these papers score
_LENGTHS = 4, 2


@dataclass(frozen=True)
class Line:
    """A line of text on a picture.

    Attributes:
        text: what is written.
        corners: x and y of its box in pixels: top left, top right, bottom right, bottom left.
    """

    text: str
    corners: Float[np.ndarray, "4 2"]


def find_sets(bench: Path) -> list[str]:
    """List the sets that are below a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    if found := [name for name in SETS if (bench / name).is_dir()]:
        return found
    raise FileNotFoundError(
        f"{bench} has none of the folders {', '.join(SETS)}: docs/benchmarks.md says what is in them"
    )


def photo_folders(root: Path) -> tuple[Path, Path]:
    """Give the folders of inputs and of truths, whose files have the same names.

    Raises:
        FileNotFoundError: they are not there.
        ValueError: a file has no partner.
    """
    for low, high in _FOLDERS:
        if (root / low).is_dir() and (root / high).is_dir():
            inputs, truths = ({path.name for path in (root / name).glob("*.png")} for name in (low, high))
            if alone := sorted(inputs ^ truths):
                raise ValueError(f"{alone[0]} is in only one of {root / low} and {root / high}")
            return root / low, root / high
    names = " or ".join(f"{low} and {high}" for low, high in _FOLDERS)
    raise FileNotFoundError(f"{root} has no folders {names}")


def write_real_ce(root: Path, out: Path, limit: int | None) -> tuple[Path, Path]:
    """Write Real-CE's 4x test pairs as its own code makes them: 13 mm, bicubic to a quarter, against 52 mm.

    Both lenses' pictures have one size. The list is `val/valid_list.txt`; the truth's right and bottom border go, down
    to multiples of 4.

    Raises:
        FileNotFoundError: the list or a picture is missing.
        ValueError: two pictures of a pair differ in size.
    """
    inputs, truths = out / "lr", out / "hr"
    for name in real_ce_names(root)[:limit]:
        places = [folder / f"{Path(name).stem}.png" for folder in (inputs, truths)]
        if all(place.exists() for place in places):
            continue
        near, far = (_read(root / "val" / lens / name) for lens in ("52mm", "13mm"))
        if near.shape != far.shape:
            raise ValueError(f"{name} is {far.shape[:2]} pixels by one lens and {near.shape[:2]} by the other")
        height, width = (side // SCALE for side in near.shape[:2])
        low = cv2.resize(far.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        pictures = np.rint(low.clip(0, 255)).astype(np.uint8), near[: SCALE * height, : SCALE * width]
        for place, picture in zip(places, pictures, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place)
    return inputs, truths


def real_ce_names(root: Path) -> list[str]:
    """Read Real-CE's list of test pictures, sorted."""
    return sorted(filter(None, map(str.strip, (root / "val" / "valid_list.txt").read_text().splitlines())))


def real_ce_lines(root: Path, stem: str) -> list[Line]:
    """Read the lines on a test picture: eight coordinates and the text, joined by commas, in GBK.

    Raises:
        ValueError: a line of the file is something else.
    """
    file = root / "val" / "annos" / f"{stem}.txt"
    found = []
    for number, row in enumerate(file.read_text(encoding="gbk").splitlines(), 1):
        if not row.strip():
            continue
        *numbers, text = row.split(",", 8)
        try:
            found.append(Line(text, np.array(numbers, np.float32).reshape(_LENGTHS)))
        except ValueError:
            raise ValueError(f"{file}, line {number}: not eight coordinates and a text, joined by commas") from None
    return found


def omnidoc_files(root: Path) -> list[Path]:
    """List OmniDoc-TokenBench's crops of pages, wherever below its folder they lie.

    Raises:
        FileNotFoundError: there are none.
        ValueError: two have the same name.
    """
    files = {path.name: path for path in sorted(root.rglob("*.png"))}
    if not files:
        raise FileNotFoundError(f"{root} has no .png files")
    if twice := [path for path in root.rglob("*.png") if files[path.name] != path]:
        raise ValueError(f"{twice[0]} and {files[twice[0].name]} have the same name: keep one of them")
    return list(files.values())


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
