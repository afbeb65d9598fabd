"""Where training images come from: a folder tree of pictures, or the tiles that `tvt_jax.data.prepare` wrote."""

import io
import json
import logging
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from tvt_jax.data.listing import LIST_SUFFIX, ImageList
from tvt_jax.data.text.manifest import TEXT_MANIFEST
from tvt_jax.data.text.source import open_text
from tvt_jax.data.texts import Texts
from tvt_jax.files import files_below
from tvt_jax.place import Place, local_only, place

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm"})

MANIFEST = "manifest.json"  # beside the tiles that `tvt_jax.data.prepare` wrote, and says whether they are complete

logger = logging.getLogger(__name__)


class UnreadableImageError(ValueError):
    """A file that is no image, or a damaged one."""


class Pair(NamedTuple):
    """An image and the same at low resolution, as two cameras saw it."""

    hr: UInt8[np.ndarray, "h w 3"]
    lr: UInt8[np.ndarray, "h2 w2 3"]


Item = UInt8[np.ndarray, "h w 3"] | Pair


class Described(NamedTuple):
    """An image or a pair, and what it shows, in words; of what has no text, an empty one."""

    item: Item
    text: str


@runtime_checkable
class Source(Protocol):
    """Images or pairs of them by index; the order is the same every time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Item:
        """Decode one, or raise UnreadableImageError."""
        ...


@runtime_checkable
class DescribedSource(Source, Protocol):
    """A source whose images may have texts."""

    def texts(self) -> set[str]:
        """Give the distinct texts of all images; an empty one where some have none."""
        ...

    def described(self, index: int) -> Described:
        """Decode one with its text, or raise UnreadableImageError."""
        ...


class FolderSource:
    """All images below a folder or in a list, in its order; each is decoded whole whenever it is asked for."""

    def __init__(self, path: str | Path) -> None:
        self._root = place(path)
        self.files = images_at(self._root)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_image(self.files[index])

    def texts(self) -> set[str]:
        """Give the distinct texts of all images."""
        return {self._texts[file] for file in self.files}

    def described(self, index: int) -> Described:
        """Read one with its text."""
        return Described(self[index], self._texts[self.files[index]])

    @cached_property
    def _texts(self) -> Texts:
        return Texts(self._root)


class TileSource:
    """The tiles in directories that `tvt_jax.data.prepare` wrote, one after the other: ArrayRecord through TFDS."""

    def __init__(self, paths: Iterable[Place], texts: Iterable[str] = ()) -> None:
        self._texts = set(texts) or {""}
        # Half a second that users of folders need not wait for.
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directories([str(path) for path in paths])
        self._records = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._decode(self._records[index])

    def texts(self) -> set[str]:
        """Give the distinct texts of all tiles, as the manifest lists them."""
        return self._texts

    def described(self, index: int) -> Described:
        """Decode one with its photo's text."""
        record = self._records[index]
        return Described(self._decode(record), record.get("text", b"").decode())

    def _decode(self, record: Mapping[str, bytes]) -> UInt8[np.ndarray, "h w 3"]:
        return decode_image(record["image"], name=record["name"].decode())


class ReadableSource:
    """A source in which the next readable image stands in for an unreadable one, so that no position ever moves.

    Attributes:
        unreadable: What was met so far: index -> message. Each is logged once (by every worker that meets it).
        upright: Whether the images are not to be turned or mirrored, as text is not.
    """

    def __init__(self, source: Source, described: bool = False) -> None:
        """Give what the source gives, or where its texts are asked for, `Described`."""
        self._source = source
        self._described = described
        self.upright: bool = getattr(source, "upright", False)
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._source)

    def texts(self) -> set[str]:
        """Give the distinct texts of all images; an empty one where some have none."""
        return self._source.texts() if isinstance(self._source, DescribedSource) else {""}

    def __getitem__(self, index: int) -> Item | Described:
        for candidate in range(index, index + len(self)):
            candidate %= len(self)
            if candidate in self.unreadable:
                continue
            try:
                return self._read(candidate)
            except UnreadableImageError as error:
                self.unreadable[candidate] = str(error)
                logger.warning("skipped: %s (%d unreadable so far)", error, len(self.unreadable))
        raise UnreadableImageError(f"none of the {len(self)} images can be read, the last: {self.unreadable[index]}")

    def _read(self, index: int) -> Item | Described:
        if not self._described:
            return self._source[index]
        if isinstance(self._source, DescribedSource):
            return self._source.described(index)
        return Described(self._source[index], "")


def distinct_texts(path: str | Path) -> set[str]:
    """Give the distinct texts of the images at a path; raise as `open_source`."""
    return open_source(path).texts()


def open_source(path: str | Path, described: bool = False) -> ReadableSource:
    """Open the text of a folder with a `text.json`, else prepared tiles if there are any below, else its images.

    Where they are to be `described`, it gives them with their texts.

    Raises:
        FileNotFoundError: There are neither tiles nor images, or a file of the text is missing.
        ValueError: The tiles are not complete, there are several sets of them, or `text.json` is no good.
    """
    folder = place(path)
    if (folder / TEXT_MANIFEST).exists():
        local_only(folder)  # the arrays of text are mapped into memory
        return ReadableSource(open_text(Path(folder)), described)
    # TFDS puts a data set into NAME/VERSION/ and marks it with this file.
    found = [file for file in files_below(folder) if file.name == "features.json"]
    tiles = [file.parent for file in found if is_shown(file, folder)]  # a part under way is hidden
    file, manifest = folder / MANIFEST, {}
    if tiles and file.exists():
        manifest = json.loads(file.read_text())
        if not manifest.get("complete"):
            raise ValueError(f"the tiles in {path} are not complete: give the same tvt_jax.data.prepare command again")
    elif len(tiles) > 1:
        raise ValueError(f"{path} holds {len(tiles)} data sets; name one of them, e.g. {tiles[0]}")
    source = TileSource(tiles, manifest.get("texts", ())) if tiles else FolderSource(path)
    return ReadableSource(source, described)


def images_at(path: Place, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> Sequence[Place]:
    """Give the images that a list names, as it orders them, or those below a folder."""
    return ImageList(path) if path.suffix == LIST_SUFFIX and not path.is_dir() else list_images(path, suffixes)


def list_images(path: Place, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Place]:
    """List all files with these endings below a folder, sorted by path; pass by what is hidden, and links to folders.

    What cannot be read is listed too, even a folder that cannot be looked into: `read_image` says what is wrong.

    Raises:
        FileNotFoundError: There is no such folder, or nothing in it.
    """
    if not isinstance(path, Path):
        found = [file for file in files_below(path) if file.suffix.lower() in suffixes and is_shown(file, path)]
        return _require_images(path, found, suffixes)
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no folder {path}; give one with images, or tiles made by tvt_jax.data.prepare"
        )
    closed: list[Path] = []
    files: list[Path] = []
    for folder, below, names in os.walk(path, onerror=lambda error: closed.append(Path(error.filename))):
        below[:] = [name for name in below if not name.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return _require_images(path, sorted([file for file in files if file.suffix.lower() in suffixes] + closed), suffixes)


def is_image(name: PurePath) -> bool:
    """Tell images from others, by the ending of their name."""
    return name.suffix.lower() in IMAGE_SUFFIXES


def is_shown(file: Place, root: Place) -> bool:
    """Tell whether neither the file nor a folder between it and the root is hidden."""
    return not any(part.startswith(".") for part in file.relative_to(root).parts)


def _require_images(path: Place, images: Sequence[Place], suffixes: frozenset[str]) -> list[Place]:
    if not images:
        raise FileNotFoundError(f"no images below {path} (looked for {' '.join(sorted(suffixes))})")
    return list(images)


def read_image(path: Place) -> UInt8[np.ndarray, "h w 3"]:
    """Read one image file as upright RGB; raise UnreadableImageError with its name where that fails."""
    try:
        # Asked first, because reading a named pipe would wait for ever.
        if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableImageError(f"{one_line(path)}: neither a file nor a folder that can be looked into")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{one_line(path)}: {error.strerror or error}") from error
    return decode_image(data, name=str(path))


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image to RGB, turned upright as its EXIF data says; transparency is dropped, 16 bits become 8.

    Of an animation, the first frame.

    Raises:
        UnreadableImageError: The data is no image, is damaged, cut off or huge, or has 32 bits a channel.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _to_rgb(_upright(image))
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"{one_line(name)}: not an image") from error
    # On a damaged file Pillow raises whatever comes: OSError, SyntaxError, struct.error, MemoryError ...
    except Exception as error:
        raise UnreadableImageError(f"{one_line(name)}: {error}") from error


def one_line(name: str | PurePath) -> str:
    """Give the name as it is, or quoted and escaped where it has line breaks or is no valid text."""
    name = str(name)
    return name if name.isprintable() else repr(name)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # The pixels are there, the way up is lost: which matters little to a crop that is turned anyway.
        return image


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a channel have no agreed range")
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits at 255.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    # Else Pillow warns that RGB cannot hold the transparency of a palette.
    image.info.pop("transparency", None)
    return np.asarray(image.convert("RGB"))
