"""Restoring what is dropped into folders, by looking again and again."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tvt_jax.inference.batch import How
from tvt_jax.inference.check import Scale
from tvt_jax.inference.job import Files, Job
from tvt_jax.inference.places import Pair, Places
from tvt_jax.inference.upscaler import Upscaler

SECONDS = 1.0

State = tuple[int, int]


def watch(settle: Callable[[], Job], upscaler: Upscaler, scale: Scale, how: How) -> NoReturn:
    """Upscale what is new or changed and not done yet, once it stays as it is from one look to the next, for ever.

    Args:
        settle: tells what there is.
        upscaler: does it.
        scale: of the results.
        how: they are written.
    """
    before: dict[Pair, State] = {}
    tried: dict[Pair, State] = {}
    wrong = ""
    while True:
        pairs, wrong = _settled(settle, wrong)
        now = {pair: _state(pair[0]) for pair in pairs}
        ready = [pair for pair, state in now.items() if before.get(pair) == state != tried.get(pair)]
        tried |= {pair: now[pair] for pair in ready}
        _upscale(Files(Places(pairs=ready)), upscaler, scale, how)
        before = now
        time.sleep(SECONDS)


def _settled(settle: Callable[[], Job], wrong: str) -> tuple[list[Pair], str]:
    """Give what there is, and what is wrong with it, which is said unless it was `wrong` before."""
    try:
        job = settle()
        return job.places.pairs if isinstance(job, Files) else [], ""
    except FileNotFoundError:  # nothing has been dropped yet, or it has gone
        return [], ""
    except ValueError as error:  # such as two that would get one name, until one of them is renamed
        if str(error) != wrong:
            print(f"error: {error}", file=sys.stderr)
        return [], str(error)


def _state(path: Path) -> State:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def _upscale(job: Files, upscaler: Upscaler, scale: Scale, how: How) -> None:
    try:
        left = job.left(how.recipe) if job.places.pairs else None
        if left is not None:
            left = replace(left, done=0)
            left.check(scale)
            left.run(upscaler, scale, how)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
