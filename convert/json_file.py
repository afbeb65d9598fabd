"""JSON of others: bounded before it is parsed, and refused by the file's name."""

import json
from pathlib import Path
from typing import Any

from convert.mapped import Refusal, brief, map_file, naming, refuse_others

# Parsed, JSON takes up to thirty times its size. Stable Diffusion's largest header has 0.3 MB.
LIMIT = 4 << 20


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it is too large, or no object.
    """
    with naming(file):
        data = map_file(file)
        if bytes(data[:64]).lstrip()[:1] not in (b"{", b"["):
            refuse_others(data)
        return parse_json(data)


def parse_json(text: memoryview) -> dict[str, Any]:
    """Parse a JSON object, in which no name may stand twice.

    Raises:
        Refusal: it is too large, not sound, or something else than an object.
    """
    if len(text) > LIMIT:
        raise Refusal(f"has {len(text)} bytes of JSON: {LIMIT} are the most that is read")
    try:
        content = json.loads(bytes(text), object_pairs_hook=_unique)
    except Refusal:
        raise
    except (ValueError, RecursionError) as error:
        raise Refusal(f"does not hold sound JSON: {brief(str(error))}") from error
    if not isinstance(content, dict):
        raise Refusal(f"holds JSON that is not an object: {brief(content)}")
    return content


def is_text(name: str) -> bool:
    """Tell whether a name can be written down: JSON and pickles can hold half a character, a lone surrogate."""
    return name.isascii() or not any("\ud800" <= x <= "\udfff" for x in name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise Refusal(f"{brief(name)} is there twice")
        if not is_text(name):
            raise Refusal(f"has the name {brief(name)}, which is not text: it is damaged")
        content[name] = value
    return content
