"""I/N: which of many pieces of work are whose, where N commands share them."""

import re


def parse_shard(shard: str) -> slice:
    """Give the pieces I, I + N, I + 2 N and so on.

    Raises:
        ValueError: it is not I/N, with I from 0 to N - 1.
    """
    numbers = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not numbers or int(numbers[1]) >= int(numbers[2]):
        raise ValueError(f"shard {shard} must be I/N, with I from 0 to N - 1")
    return slice(int(numbers[1]), None, int(numbers[2]))
