"""Whether results can be written, tried before anything is computed."""

import os
import shutil
from collections import defaultdict
from pathlib import Path

from tvt_jax.files import check_writable
from tvt_jax.inference.check import Scale
from tvt_jax.inference.images import size_of
from tvt_jax.inference.places import Pair
from tvt_jax.inference.writing import format_of

# What photos take at the least, enlarged, in 8 bits: `tvt` refuses what can't fit, not what may not.
BYTES_PER_PIXEL = {"PNG": 0.8, "TIFF": 0.8, "JPEG": 0.15, "WEBP": 0.05, "AVIF": 0.05}


def check_room(pairs: list[Pair], scale: Scale) -> None:
    """Try every place, and compare what results will take with what is free.

    Raises:
        ValueError: a result can't be written, or they will not fit the disk.
    """
    needed = defaultdict[int, dict[Pair, int]](dict)
    for pair in pairs:
        check_writable(pair[1])
        needed[os.stat(pair[1].parent).st_dev][pair] = _estimate(*pair, scale)
    for sizes in needed.values():
        largest = max(sizes, key=lambda pair: sizes[pair])
        size, folder = sum(sizes.values()), min(target.parent for _, target in sizes)
        free = shutil.disk_usage(folder).free
        if size > free:
            raise ValueError(
                f"the results need about {size / 1e6:.1f} MB, that of {largest[0]} {sizes[largest] / 1e6:.1f} MB, "
                f"and {folder} has {free / 1e6:.1f} MB free"
            )


def _estimate(source: Path, target: Path, scale: Scale) -> int:
    size = size_of(source)
    if size is None:
        return 0
    return int(size[0] * size[1] * scale**2 * BYTES_PER_PIXEL[format_of(target)])
