"""Names on the Hugging Face hub, hf://OWNER/NAME or hf://OWNER/NAME/FOLDER, in place of paths."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

_NAME = re.compile(r"hf:/{1,2}(?P<repository>[^/]+/[^/]+)(?:/(?P<inside>.+?))?/?")  # Path makes one slash of two


def fetch(path: str | os.PathLike[str], parts: Sequence[str] = ("*",)) -> Path:
    """Give the folder or file of a hub name, which is downloaded once; a path is given back as it is.

    Args:
        path: any path, or a hub name.
        parts: patterns of what is needed of the folder, so that nothing else is downloaded.

    Raises:
        ValueError: the name is not of that form, or huggingface_hub is not installed.
        FileNotFoundError: the hub does not have it, or cannot be reached and it was not downloaded before.
    """
    if not str(path).startswith("hf:/"):
        return Path(path)
    name = _NAME.fullmatch(str(path))
    if not name:
        raise ValueError(f"{path} is not a name on the hub: write hf://OWNER/NAME or hf://OWNER/NAME/FOLDER")
    inside = name["inside"]
    wanted = [inside, *(f"{inside}/{part}" for part in parts)] if inside else list(parts)
    found = _download(name["repository"], wanted) / (inside or "")
    if not found.exists():
        raise FileNotFoundError(f"{name['repository']} on the hub has no {inside}")
    return found


def _download(repository: str, wanted: list[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise ValueError(
            f"hf://{repository} is on the hub, and huggingface_hub is not installed: pip install 'tvt-jax[hub]', or "
            "download it elsewhere and give the folder"
        ) from None
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except HFValidationError as error:
        raise ValueError(f"hf://{repository} is not a name on the hub: {error}") from None
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"hf://{repository} could not be fetched ({reason}): where there is no network, download it elsewhere and "
            "give the folder"
        ) from None
