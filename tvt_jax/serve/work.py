"""What is made of a visitor's file: read, restored, and written as the file was."""

import io
import threading
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tvt_jax.colour import ColorFix
from tvt_jax.inference.check import Scale
from tvt_jax.inference.images import Picture, decode_picture, size_in
from tvt_jax.inference.mark import mark_for, recipe_of
from tvt_jax.inference.places import Naming
from tvt_jax.inference.restoration import Report
from tvt_jax.inference.strength import Strength, blend
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.inference.writing import check_size, encode_picture, format_of
from tvt_jax.serve.blob import Blob
from tvt_jax.serve.names import distinct
from tvt_jax.serve.views import View, view

# Side in pixels of the part that is tried first: a second of work, and enough to see something.
TRIAL = 256
# Results may have as many pixels as the largest picture enlarged so many times.
_LARGEST_AT = 4
# Catching warnings is the whole process's affair: two threads would take each other's.
_FILES = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model at work, and the fingerprint that its results are marked by."""

    upscaler: Upscaler
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a visitor asks for.

    Attributes:
        model: its name.
        scale: 1 to 8.
        color_fix: how the input's colours are given back.
        part: left and top of the part that is tried; None is the whole picture.
    """

    model: str
    scale: Scale
    color_fix: ColorFix
    part: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Restored:
    """A whole picture's restoration: what was asked for, and the pixels (numpy's format)."""

    ask: Ask
    pixels: Blob

    def close(self) -> None:
        """Free them."""
        self.pixels.close()


def read(data: bytes, name: str) -> tuple[Picture, list[str]]:
    """Read a file's content; give what damage it has, too.

    Raises:
        ValueError: it can't be read.
    """
    with _FILES, warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        return decode_picture(data, name), [str(warning.message) for warning in found]


def check_picture(data: bytes, name: str, megapixels: float) -> None:
    """Raise ValueError if a file's header tells of too many pixels; nothing is decoded."""
    with _FILES:
        size = size_in(io.BytesIO(data))
    if size and size[0] * size[1] > megapixels * 1e6:
        pixels = size[0] * size[1] / 1e6
        raise ValueError(f"{name} has {pixels:.4g} megapixels, and this page takes {megapixels:g}: shrink or cut it")


def check_result(height: int, width: int, name: str, scale: Scale, megapixels: float) -> None:
    """Raise ValueError if a result would be too large, for the page or for its format."""
    most = (megapixels * 1e6 / (height * width)) ** 0.5 * _LARGEST_AT
    if scale > most:
        raise ValueError(f"{name} is too large to be enlarged {scale:g} times: choose {int(10 * most) / 10:g} or less")
    check_size(result_name(name), round(height * scale), round(width * scale))


def result_name(name: str) -> Path:
    """Name a result: as its picture, in PNG where that format isn't written."""
    return Naming().name(Path(name))


def part_of(picture: Picture, ask: Ask) -> Picture:
    """Give what of a picture is asked for."""
    if ask.part is None:
        return picture
    (left, top), (height, width) = ask.part, picture.pixels.shape[:2]
    # Within the picture, whatever was asked for.
    left, top = (max(0, min(start, side - TRIAL)) for start, side in ((left, width), (top, height)))
    return replace(picture, pixels=np.ascontiguousarray(picture.pixels[top : top + TRIAL, left : left + TRIAL]))


def restore(data: bytes, name: str, ask: Ask, upscaler: Upscaler, report: Report) -> tuple[View, Restored | None]:
    """Restore the picture in a file's content, or the part that is asked for.

    Raises:
        MemoryError: it doesn't fit.
        ValueError: it can't be read.
    """
    picture = part_of(read(data, name)[0], ask)
    upscaler.check_fits(*picture.pixels.shape[:2])
    pixels = upscaler.upscale(picture.pixels, ask.scale, color_fix=ask.color_fix, report=report)
    shown = view(picture, pixels, ask.part)
    if ask.part is not None:
        return shown, None
    restored = Restored(ask=ask, pixels=Blob())
    with restored.pixels.opened() as file:
        np.save(file, pixels)
    return shown, restored


def write(data: bytes, name: str, restored: Restored, strength: Strength, fingerprint: str) -> bytes:
    """Give the file that a visitor downloads: in the picture's format, with its metadata, and marked."""
    picture = read(data, name)[0]
    with restored.pixels.opened() as file:
        pixels = blend(np.load(file), picture.pixels, strength)
    ask = restored.ask
    recipe = recipe_of(fingerprint, {"scale": ask.scale, "color_fix": ask.color_fix, "strength": strength})
    result = replace(picture, pixels=pixels, metadata=picture.metadata.marked(mark_for(recipe, data)))
    stream = io.BytesIO()
    with _FILES, warnings.catch_warnings(action="ignore"):
        encode_picture(stream, result, format_of(result_name(name)))
    return stream.getvalue()


def pack(names: Iterable[str], files: Iterable[bytes]) -> Blob:
    """Put files into a zip, under names made distinct; they are compressed already."""
    packed = Blob()
    with packed.opened() as file, zipfile.ZipFile(file, "w") as archive:
        for name, data in zip(distinct(names), files, strict=True):
            archive.writestr(name, data)
    return packed
