"""A folder of text to train on, whose letters are OpenCV's."""

from pathlib import Path

import cv2
import numpy as np

from tvt_jax.data.text.manifest import LINE, Manifest, save

SCRIPTS = ("latin", "zh", "figures", "code")
SIZES = (8, 12, 16, 30, 60)


def written(size: int, words: str) -> np.ndarray:
    """A line of ink."""
    ink = np.zeros((size, 1024), np.uint8)
    cv2.putText(ink, words, (2, size - size // 4), cv2.FONT_HERSHEY_SIMPLEX, size / 30, 255, 1, cv2.LINE_AA)
    return ink


def write_text(made: Path) -> Path:
    """Two faces, four scripts, pages and photos."""
    rows, inks, breaks = [], [], []
    for script in range(len(SCRIPTS)):
        for face in range(2):
            for size in SIZES:
                ink = written(size, f"{SCRIPTS[script]} {face} some words of text " * 30)
                letters = np.flatnonzero(~ink.any(axis=0)).astype(np.int16)
                at, first = (sum(part.size for part in parts) for parts in (inks, breaks))
                rows.append((script, face, size, *ink.shape, size - size // 4, at, first, len(letters), 0))
                inks.append(ink.ravel())
                breaks.append(letters)
    generator = np.random.default_rng(0)
    manifest = Manifest(folder=made, examples=1000, side=128, scripts=SCRIPTS, families=("Plain", "Other"))
    arrays = {"lines": np.array(rows, LINE), "ink": np.concatenate(inks), "breaks": np.concatenate(breaks)}
    arrays["pages"] = np.stack([np.tile(written(16, "a page of a manual " * 9)[:, :300], (19, 1)) for _ in range(3)])
    arrays["backgrounds"] = generator.integers(0, 256, (4, 96, 96, 3), np.uint8)
    save(manifest, arrays)
    return made
