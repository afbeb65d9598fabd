"""Lines that were written and read, counted by column, with intervals over the pictures that they stand on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks import text

MEASURES = ("plain", "capped", "recalled")  # of `text.Counts`


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
    """Count what was written; give each method's `rates` by measure and column, and its `difference` to bicubic."""
    base = lines["bicubic"]
    return {
        "pictures": len({line.picture for line in base}),
        "lines": len(base),
        "characters": sum(text.count_errors(line.written, "").written for line in base),
        "methods": {
            name: {
                measure: {"rates": rates(part, columns, measure), "difference": difference(part, base, measure)}
                for measure in MEASURES
            }
            for name, part in lines.items()
        },
    }


def rates(lines: Sequence[Line], columns: Sequence[str], measure: str = "plain") -> dict[str, float]:
    """Return the share of the written characters by column; leave out columns without a line."""
    found = {}
    for column in columns:
        if part := [line for line in lines if column in line.columns]:
            counts, characters = _totals(part, measure).sum(axis=0)
            found[column] = float(counts / characters)
    return found


def difference(
    lines: Sequence[Line], base: Sequence[Line], measure: str = "plain", resamples: int = 2000
) -> list[float]:
    """Return the share less that of `base` on the same pictures, and its 95 % interval over resampled pictures.

    Of one picture there is no interval, so the share stands alone.
    """
    counts, characters = _totals(lines, measure).T
    more = counts - _totals(base, measure)[:, 0]
    mean = float(more.sum() / characters.sum())
    if len(more) == 1:
        return [mean]
    drawn = np.random.default_rng(0).integers(len(more), size=(resamples, len(more)))
    low, high = np.percentile(more[drawn].sum(axis=1) / characters[drawn].sum(axis=1), (2.5, 97.5))
    return [mean, float(low), float(high)]


def verdict(figures: Mapping[str, Any], measure: str) -> str:
    """Say "better" or "worse" than bicubic where the interval leaves out 0, else "not told apart"."""
    _, *interval = figures[measure]["difference"]
    if not interval or interval[0] <= 0 <= interval[1]:
        return "not told apart"
    return "better" if (interval[0] > 0) == (measure == "recalled") else "worse"


def _totals(lines: Sequence[Line], measure: str) -> Float[np.ndarray, "pictures 2"]:
    """Count by picture what `measure` counts, and the written characters."""
    totals: dict[str, list[int]] = {}
    for line in lines:
        counts = text.count_errors(line.written, line.read)
        total = totals.setdefault(line.picture, [0, 0])
        total[0] += getattr(counts, measure)
        total[1] += counts.written
    return np.array(list(totals.values()), float)
