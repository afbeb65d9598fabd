"""Encoded texts in a folder: parts of arrays that are mapped into memory, and the texts of each part's rows."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16

from tvt_jax.files import write_whole
from tvt_jax.place import local_only

ENCODER = "encoder.json"  # says what encoded them


def add_part(out: Path, texts: list[str], embeddings: Float[np.ndarray, "b n d"]) -> None:
    """Write a part; its texts come last, and make it count."""
    number = len(_parts(out))
    with (out / f"part_{number:05d}.npy").open("wb") as file:
        np.save(file, embeddings.astype(np.float16))
    write_whole(out / f"part_{number:05d}.json", json.dumps(texts, ensure_ascii=False) + "\n")
    _open.cache_clear()


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part_*.json"))


def read_rows(folder: Path) -> dict[str, tuple[int, int]]:
    """Give the part of each text, and its row in it."""
    parts = (json.loads(file.read_text()) for file in _parts(folder))
    return {text: (number, row) for number, texts in enumerate(parts) for row, text in enumerate(texts)}


@dataclass(frozen=True)
class Prompts:
    """Encoded texts in a folder, opened in each process that asks for them.

    Attributes:
        path: the folder.
    """

    path: str

    def __post_init__(self) -> None:
        local_only(self.path)
        if not (Path(self.path) / ENCODER).is_file():
            raise FileNotFoundError(f"{self.path} holds no prompts; python -m tvt_jax.data.encode makes some")

    def require(self, texts: Iterable[str]) -> None:
        """Raise ValueError where one of the texts is not among them."""
        rows = _open(self.path)[0]
        if missing := sorted(set(texts) - rows.keys()):
            raise ValueError(
                f"{len(missing)} texts are not among the prompts in {self.path}, such as {missing[0]!r}: give the same "
                "python -m tvt_jax.data.encode command again"
            )

    def __getitem__(self, text: str) -> Float16[np.ndarray, "n d"]:
        """Give a text, encoded."""
        rows, parts = _open(self.path)
        self.require([text])
        part, row = rows[text]
        return np.array(parts[part][row])


def width_of(path: str) -> int | None:
    """Give the width of the prompts in a folder; None where there are none."""
    first = Path(path) / "part_00000.npy"
    return np.load(first, mmap_mode="r").shape[-1] if first.is_file() else None


@cache
def _open(path: str) -> tuple[dict[str, tuple[int, int]], list[np.ndarray]]:
    """Map the parts into memory; a second time, give the same."""
    folder = Path(path)
    return read_rows(folder), [np.load(file.with_suffix(".npy"), mmap_mode="r") for file in _parts(folder)]
