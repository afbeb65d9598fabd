"""Several processes as one run."""

import os
import sys
from argparse import ArgumentParser, Namespace

import jax

# Without a sign of life from a process for so long, jax ends all others.
_HEARTBEAT_SECONDS = 60


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what `start` reads."""
    parser.add_argument(
        "--coordinator",
        metavar="auto|HOST:PORT",
        help="run on several hosts, this command on each: `auto` on TPU pods, under SLURM and Open MPI; otherwise the "
        "address of the first host, with --processes and --process",
    )
    parser.add_argument("--processes", type=int, help="how many; with --coordinator=HOST:PORT")
    parser.add_argument("--process", type=int, help="which of them this is, from 0; with --coordinator=HOST:PORT")


def start(arguments: Namespace) -> None:
    """Join the other processes, where there are any, and return once all are there.

    Raises:
        ValueError: the arguments do not belong together.
        RuntimeError: no cluster was found, or its other processes did not come within five minutes.
    """
    by_hand = (arguments.processes, arguments.process)
    if arguments.coordinator in (None, "auto"):
        if any(number is not None for number in by_hand):
            raise ValueError("--processes and --process go with --coordinator=HOST:PORT")
        if arguments.coordinator:
            jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
        return
    if None in by_hand or not 0 <= arguments.process < arguments.processes:
        raise ValueError(
            f"--coordinator={arguments.coordinator} needs --processes=N and --process=I, I from 0 to N - 1, not "
            f"{arguments.processes} and {arguments.process}"
        )
    jax.distributed.initialize(
        arguments.coordinator,
        arguments.processes,
        arguments.process,
        heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )


def fail(error: Exception) -> int:
    """Say what went wrong and return the exit status 1; where there are several processes, end this one.

    On its way out, jax would wait minutes for the others, which wait for this one.
    """
    print(f"error: {error}", file=sys.stderr, flush=True)
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        os._exit(1)
    return 1
