"""What made a result, in so few words that the file itself can hold them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tvt_jax.files import files_below
from tvt_jax.place import Place

_NAME = "tvt"
_PROMPT = " prompt="
_MODEL_FILES = (".json", ".safetensors", ".txt")
# Hexadecimal digits: of what could meet by chance, and of what nobody else should be able to make.
_SHORT, _LONG = 16, 32


def recipe_of(model: str, options: Mapping[str, Any]) -> str:
    """Say by which model (its fingerprint), and with what options, results are made."""
    told = repr(sorted(options.items())).encode()
    return f"{_NAME} model={model} options={hashlib.sha256(told).hexdigest()[:_SHORT]}"


def mark_for(recipe: str, data: bytes) -> str:
    """Say of what file's content, too."""
    return f"{recipe} input={hashlib.sha256(data).hexdigest()[:_LONG]}"


def prompted(mark: str, prompt: str) -> str:
    """Say by what prompt, too; other than ASCII, which not every format holds, is escaped."""
    return f"{mark}{_PROMPT}{json.dumps(prompt)}"


def without_prompt(mark: str) -> str:
    """Leave out what `prompted` added."""
    return mark.partition(_PROMPT)[0]


def is_mark(text: str | None) -> bool:
    """Tell a mark from what other programs write there."""
    return text is not None and text.startswith(f"{_NAME} model=")


def fingerprint(folder: Place) -> str:
    """Hash what a model or tagger folder holds."""
    digest = hashlib.sha256()
    for path in sorted(path for path in files_below(folder) if path.suffix in _MODEL_FILES):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:_SHORT]
