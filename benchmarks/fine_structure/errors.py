"""Lines that were written and read, counted by column, with intervals over the pictures that they stand on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks import text


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line as it was written and as it was read.

    Attributes:
        written: what stands there.
        read: what the recogniser made of it.
        picture: which picture it is on; lines of one picture have their degradation in common.
        columns: of the table, that it counts in.
    """

    written: str
    read: str
    picture: str
    columns: tuple[str, ...]


def summarise(lines: Mapping[str, Sequence[Line]], columns: Sequence[str]) -> dict[str, Any]:
    """Count what was written; give each method's `rates`, and its `difference` to bicubic with the interval."""
    base = lines["bicubic"]
    return {
        "pictures": len({line.picture for line in base}),
        "lines": len(base),
        "characters": sum(text.count_errors(line.written, "")[1] for line in base),
        "methods": {
            name: {"rates": rates(part, columns), "difference": difference(part, base)} for name, part in lines.items()
        },
    }


def rates(lines: Sequence[Line], columns: Sequence[str]) -> dict[str, float]:
    """Return the character error rate by column; leave out columns without a line."""
    parts = {column: [line for line in lines if column in line.columns] for column in columns}
    return {
        column: text.character_error_rate([line.written for line in part], [line.read for line in part])
        for column, part in parts.items()
        if part
    }


def difference(lines: Sequence[Line], base: Sequence[Line], resamples: int = 2000) -> list[float]:
    """Return the error rate less that of `base` on the same pictures, and its 95 % interval over resampled pictures."""
    edits, characters = _totals(lines).T
    more = edits - _totals(base)[:, 0]
    drawn = np.random.default_rng(0).integers(len(edits), size=(resamples, len(edits)))
    low, high = np.percentile(more[drawn].sum(axis=1) / characters[drawn].sum(axis=1), (2.5, 97.5))
    return [float(more.sum() / characters.sum()), float(low), float(high)]


def _totals(lines: Sequence[Line]) -> Float[np.ndarray, "pictures 2"]:
    """Count edits and written characters of each picture."""
    totals: dict[str, list[int]] = {}
    for line in lines:
        total = totals.setdefault(line.picture, [0, 0])
        for i, count in enumerate(text.count_errors(line.written, line.read)):
            total[i] += count
    return np.array(list(totals.values()), float)
