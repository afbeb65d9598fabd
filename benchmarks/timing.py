"""Time that can be compared: the same run, the same cores, warmed up, finished before the clock stops."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax


def use_cores(count: int) -> int:
    """Keep this process to `count` cores, fewer if it has fewer, and return how many; call before jax does any work.

    The affinity binds XLA, ncnn and OpenMP alike, where each alone has an option of its own or none. Only Linux has it:
    elsewhere all cores work, and all are counted.
    """
    if not hasattr(os, "sched_setaffinity"):  # only Linux has it
        return os.cpu_count() or 1
    cores = sorted(os.sched_getaffinity(0))[:count]
    os.sched_setaffinity(0, cores)
    return len(cores)


def seconds(calls: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any]) -> dict[str, float]:
    """Return the median seconds of each call over `inputs`, which must be alike.

    The calls take turns, so that a busy machine is busy for all. A first round over one input is not counted: it
    compiles and loads.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for value in [inputs[0], *inputs]:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call(value))
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured[1:]) for name, measured in times.items()}
