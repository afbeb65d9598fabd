"""Tables as people and programs read them."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a Markdown table; the first column is text, the others are figures."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, marks, *rows])


def write(out: Path, figures: Mapping[str, Any], tables: str) -> None:
    """Write the figures to `out` with the ending .json, and the tables beside it with .md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")
    out.with_suffix(".md").write_text(tables + "\n")


def run_as_command(command: Callable[[], None]) -> None:
    """Run a benchmark; turn what the user can put right into one line and exit status 1."""
    try:
        command()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")
