"""Names on the Hugging Face hub, hf://OWNER/NAME or hf://OWNER/NAME/FOLDER, in place of paths."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

from tvt_jax.place import Place, check, in_bucket, place

_NAME = re.compile(r"hf:/{1,2}(?P<repository>[^/]+/[^/]+)(?:/(?P<inside>.+?))?/?")  # Path makes one slash of two


Choose = Callable[[Sequence[str]], Sequence[str]]
"""Gives those of a folder's files that are needed; their names are relative to it."""


def fetch(path: str | os.PathLike[str], choose: Choose = list) -> Path:
    """Give the folder or file of a hub name, which is downloaded once; a path is given back as it is.

    Args:
        path: any path, or a hub name.
        choose: what is needed of the folder, so that nothing else is downloaded.

    Raises:
        ValueError: the name is not of that form, or of another scheme, or huggingface_hub is not installed.
        FileNotFoundError: the hub does not have it, or cannot be reached and it was not downloaded before.
    """
    check(path, "hf")
    if not str(path).startswith("hf:/"):
        return Path(path)
    name = _NAME.fullmatch(str(path))
    if not name:
        raise ValueError(f"{path} is not a name on the hub: write hf://OWNER/NAME or hf://OWNER/NAME/FOLDER")
    inside = name["inside"]
    found = _download(name["repository"], partial(_wanted, inside, choose)) / (inside or "")
    if not found.exists():
        raise FileNotFoundError(f"{name['repository']} on the hub has no {inside}")
    return found


def find(path: str | os.PathLike[str]) -> Place:
    """Give the folder of a hub name as `fetch` does, or of gs://BUCKET/NAME, which stays where it is."""
    check(path, "gs", "hf")
    return place(path) if in_bucket(path) else fetch(path)


def _wanted(inside: str | None, choose: Choose, files: Sequence[str]) -> list[str]:
    """Give those of a repository's files that are needed: the one that is asked for, or some of the folder's.

    With a file come its settings, as user interfaces put them beside it: they may be all that says what it predicts.
    """
    if not inside:
        return list(choose(files))
    if inside in files:
        return [inside, *({str(PurePosixPath(inside).with_suffix(".yaml"))} & set(files) - {inside})]
    folder = f"{inside}/"
    within = [name.removeprefix(folder) for name in files if name.startswith(folder)]
    return [folder + name for name in choose(within)]


def _download(repository: str, wanted: Choose) -> Path:
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        raise ValueError(
            f"hf://{repository} is on the hub, and huggingface_hub is not installed: pip install 'tvt-jax[hub]', or "
            "download it elsewhere and give the folder"
        ) from None
    try:
        files = wanted(HfApi().list_repo_files(repository))
    except HFValidationError as error:
        raise ValueError(f"hf://{repository} is not a name on the hub: {error}") from None
    except Exception as error:  # of whichever HTTP library: what was downloaded before may do
        with _reachable(repository, error):
            return Path(snapshot_download(repository, local_files_only=True))
    if not files:
        raise FileNotFoundError(f"{repository} on the hub has nothing of what is asked for")
    with _reachable(repository):
        return Path(snapshot_download(repository, allow_patterns=[glob.escape(name) for name in files]))


@contextmanager
def _reachable(repository: str, first: Exception | None = None) -> Iterator[None]:
    """Say what to do where it is not, with the first reason."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (HfHubHTTPError, OSError) as error:
        reason = str(first or error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"hf://{repository} could not be fetched ({reason}): where there is no network, download it elsewhere and "
            "give the folder"
        ) from None
