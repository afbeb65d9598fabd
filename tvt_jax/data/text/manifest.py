"""What a folder of text to train on consists of: `text.json` and its arrays, written by tools/fetch_text.py."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tvt_jax.data.text.excluded import excluded_face
from tvt_jax.files import whole_file, write_whole

TEXT_MANIFEST = "text.json"
# One row a line of text: its ink lies in `ink` from `at` on, row by row; in `breaks` from `breaks_at` on, the
# columns between its letters, and then between its words. `script`, `face` and `size` say what it is.
LINE = np.dtype(
    {
        "names": ["script", "face", "size", "height", "width", "above", "at", "breaks_at", "letters", "words"],
        "formats": [*["i2"] * 6, *["i8"] * 2, *["i2"] * 2],
    }
)
# Name of each array and its shape; `pages` is the ink of rasterised pages, `backgrounds` are pieces of photos.
_SHAPES = {"lines": "n", "ink": "n", "breaks": "n", "pages": "n h w", "backgrounds": "n h w 3"}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What is written, with what, and on what.

    Attributes:
        folder: Where the arrays lie, as NAME.npy.
        examples: Length of the source: so many different pictures.
        seed: Picture i depends on (seed, i) and on the files alone.
        side: Of the pictures, in pixels.
        scripts: Names of the scripts; lines name them by their number.
        families: The family of each face; lines name faces by their number.
    """

    folder: Path
    examples: int = 1_000_000
    seed: int = 0
    side: int = 256
    scripts: tuple[str, ...]
    families: tuple[str, ...]

    def array(self, name: str) -> np.ndarray:
        """One of the arrays, mapped into memory.

        Raises:
            FileNotFoundError: It is missing.
            ValueError: It is damaged or something else.
        """
        path, shape = self._path(name), _SHAPES[name]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: give the tools/fetch_text.py command again")
        try:
            array = np.load(path, mmap_mode="r")
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): give the tools/fetch_text.py command again") from error
        if array.ndim != len(shape.split()):
            raise ValueError(
                f"{path} has the shape {array.shape}, not {shape}: give the tools/fetch_text.py command again"
            )
        return array

    def optional_array(self, name: str) -> np.ndarray | None:
        """Give the same, or None where it is missing, as pages and backgrounds may be."""
        return self.array(name) if self._path(name).is_file() else None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


def save(manifest: Manifest, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the arrays, and `text.json` when they are complete; a training that has earlier ones open keeps those."""
    (manifest.folder / TEXT_MANIFEST).unlink(missing_ok=True)
    for name, array in arrays.items():
        with whole_file(manifest.folder / f"{name}.npy") as partial, partial.open("wb") as file:
            np.save(file, array)
    known = {key: value for key, value in asdict(manifest).items() if key != "folder"}
    write_whole(manifest.folder / TEXT_MANIFEST, json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def load(folder: Path) -> Manifest:
    """Read `text.json`.

    Raises:
        ValueError: It is no manifest, names a face that must not be trained on, or makes no sense.
    """
    path = folder / TEXT_MANIFEST
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        listed = {key: tuple(known[key]) for key in ("scripts", "families")}
        manifest = Manifest(**{**known, **listed, "folder": folder})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no list of faces and scripts ({error!r}): let tools/fetch_text.py write it"
        ) from error
    if excluded := [family for family in manifest.families if excluded_face(family)]:
        raise ValueError(f"{path} names {excluded[0]}, a face that is kept for measuring: take it out")
    if manifest.examples < 1 or manifest.side < 64:
        raise ValueError(f"{path}: {manifest.examples} examples of {manifest.side} pixels; it takes 1 of 64 at least")
    return manifest
