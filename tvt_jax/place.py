"""Where things lie: a path of this machine or gs://BUCKET/NAME; all other schemes are refused in a sentence."""

import importlib.util
import os
import re
from pathlib import Path
from typing import TypeAlias

from etils import epath

Place: TypeAlias = Path | epath.Path
"""A path of this machine, which stays pathlib's, or one in a bucket, with the same methods."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)  # Path makes one slash of two
_MOUNTED = "or mount the bucket (gcsfuse, for gs://) and give the path where it is mounted"


def place(name: str | os.PathLike[str]) -> Place:
    """Give the place of that name.

    Raises:
        ValueError: it is neither a path nor gs://BUCKET/NAME, or what reads buckets is not installed.
    """
    check(name, "gs")
    if not in_bucket(name):
        return Path(name)
    bucket = _url(name)
    if importlib.util.find_spec("gcsfs") is None:
        raise ValueError(f"{bucket} needs gcsfs, which is not installed: pip install 'tvt-jax[gcs]', {_MOUNTED}")
    return epath.Path(bucket)


def check(name: str | os.PathLike[str], *schemes: str) -> None:
    """Raise ValueError for a URL of any other scheme than these, hf or gs; every path is fine."""
    url = _URL.match(str(name))
    if not url or (url[1] in schemes and (url[2].strip("/") or url[1] == "hf")):
        return
    forms = [_FORMS[scheme] for scheme in schemes]
    raise ValueError(f"{_url(name)} is not supported here: give {', '.join(['a path', *forms])}, {_MOUNTED}")


def local_only(*names: str | os.PathLike[str] | None) -> None:
    """Raise ValueError for the first that is not a path of this machine; None is passed by."""
    for name in names:
        if name is not None:
            check(name)


def in_bucket(name: str | os.PathLike[str]) -> bool:
    """Tell gs://BUCKET/NAME from others."""
    return str(name).startswith("gs:/")


def absolute(path: Place) -> Place:
    """Give the place with all folders above it; one in a bucket has them already."""
    return path.absolute() if isinstance(path, Path) else path


_FORMS = {"gs": "gs://BUCKET/NAME", "hf": "hf://OWNER/NAME"}


def _url(name: str | os.PathLike[str]) -> str:
    return _URL.sub(r"\1://\2", str(name))
