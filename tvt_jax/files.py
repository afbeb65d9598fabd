"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a file whole or not at all, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial_path.write_text(text, encoding="utf-8")
    os.replace(partial_path, path)
