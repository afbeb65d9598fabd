"""What a file tells beside its pixels: EXIF with dates and places, XMP, resolution."""

import io
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_EXIF, _GPS = int(ExifTags.IFD.Exif), int(ExifTags.IFD.GPSInfo)
_ORIENTATION, _MARK = 274, 11
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
ICC_PROFILE, XMP = 34675, 700
_DESCRIPTION = 270
# Of the first directory, which in a TIFF tells of the pixels too, what tells of the picture: document, description,
# camera, software, date, artist, host, page, ratings, copyright; and Windows' title, comment, author, keywords and
# subject.
_KEPT = (269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096))
# Width and height in pixels, and the way to another directory: no longer true.
_DROPPED = (40962, 40963, 40965)
# Descriptions that tell programs how large the picture is.
_LAYOUTS = ('{"shape"', "ImageJ=", "<?xml")
_CENTIMETRES_AN_INCH = 2.54

Tags = Mapping[int, Any]


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What is kept of a file beside its pixels and their profile.

    Attributes:
        tags: EXIF's first directory, by number, and those of the camera and of the place within it.
        xmp: an XMP packet.
        dpi: horizontal and vertical resolution.
    """

    tags: Tags = field(default_factory=dict)
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def marked(self, mark: str) -> "Metadata":
        """Add what made a result (in EXIF's ProcessingSoftware)."""
        return replace(self, tags={**self.tags, _MARK: mark})

    def mark_alone(self) -> "Metadata":
        """Leave out all of EXIF but the mark."""
        return replace(self, tags={tag: self.tags[tag] for tag in (_MARK,) if tag in self.tags}, dpi=None)

    def without_xmp(self) -> "Metadata":
        """Leave out the XMP packet."""
        return replace(self, xmp=None)

    def directory(self) -> dict[int, Any]:
        """Give EXIF's first directory as it is to be written, upright."""
        if not self.tags and not self.dpi:
            return {}
        tags = {**self.tags, _ORIENTATION: 1}
        if self.dpi:
            tags |= {X_RESOLUTION: self.dpi[0], Y_RESOLUTION: self.dpi[1], RESOLUTION_UNIT: 2}
        return tags

    def exif(self, orientation: bool = True) -> bytes:
        """Give it as JPEG, PNG, WebP and AVIF hold it, with or without the orientation; nothing where there is none."""
        tags = self.directory()
        if not orientation:
            tags.pop(_ORIENTATION, None)
        exif = Image.Exif()
        for tag, value in tags.items():
            exif[tag] = value
        return exif.tobytes() if tags else b""


def gather(exif: Image.Exif, info: Mapping[Any, Any]) -> Metadata:
    """Gather what is kept, with an image's `info` as Pillow gives it; what is damaged is left out, with a warning."""
    try:
        tags = {tag: _text(exif[tag]) for tag in _KEPT if tag in exif and not _tells_layout(tag, exif[tag])}
        for group in (_EXIF, _GPS):
            inner = {tag: _text(value) for tag, value in exif.get_ifd(group).items() if tag not in _DROPPED}
            tags |= {group: inner} if inner else {}
        metadata = Metadata(tags=tags)
        metadata.exif()
    # Pillow raises whatever a damaged directory makes it stumble over.
    except Exception as error:
        warnings.warn(f"the EXIF data is damaged and left out ({error})", stacklevel=2)
        metadata = Metadata()
    return replace(metadata, xmp=_upright_xmp(info.get("xmp")), dpi=_resolution(info.get("dpi")))


def tiff_exif(stream: io.BytesIO | io.BufferedReader) -> Image.Exif:
    """Read a TIFF's first directory, also where Pillow doesn't open its pixels."""
    header = stream.read(16)
    exif = Image.Exif()
    exif.endian, exif.bigtiff = "<" if header.startswith(b"II") else ">", b"\x2b" in header[2:4]
    (start,) = struct.unpack_from(exif.endian + ("Q" if exif.bigtiff else "I"), header, 8 if exif.bigtiff else 4)
    exif.load_from_fp(stream, start)
    return exif


def tiff_info(exif: Image.Exif) -> dict[str, Any]:
    """Give what Pillow's `info` would have, from a TIFF's directory."""
    info = {"icc_profile": exif.get(ICC_PROFILE), "xmp": exif.get(XMP)}
    unit: float | None = {2: 1.0, 3: _CENTIMETRES_AN_INCH}.get(exif.get(RESOLUTION_UNIT, 2))
    sides: Any = exif.get(X_RESOLUTION), exif.get(Y_RESOLUTION)
    return info | ({"dpi": tuple(float(side) * unit for side in sides)} if unit and all(sides) else {})


def mark_of(exif: Image.Exif) -> str | None:
    """Give what `Metadata.marked` left in a file; None where it didn't."""
    mark = exif.get(_MARK)
    return mark if isinstance(mark, str) else None


def subdirectories(tags: Tags) -> dict[int, ImageFileDirectory_v2]:
    """Give the directories within one, to be written after it."""
    found = {}
    for group in (_EXIF, _GPS):
        if group in tags:
            found[group] = ImageFileDirectory_v2(b"II*\0\0\0\0\0", group=group)
            for tag, value in tags[group].items():
                found[group][tag] = value
    return found


def _text(value: Any) -> Any:
    """Keep bytes that aren't ASCII, which Pillow reads as Latin-1 and would write as question marks."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _tells_layout(tag: int, value: Any) -> bool:
    return tag == _DESCRIPTION and isinstance(value, str) and value.startswith(_LAYOUTS)


def _upright_xmp(xmp: bytes | str | None) -> bytes | None:
    if not xmp:
        return None
    packet = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    return re.sub(rb'(tiff:Orientation(?:="|>))[0-9]', rb"\g<1>1", packet)


def _resolution(dpi: Any) -> tuple[float, float] | None:
    """Two numbers, or None: files tell of 0 and of fractions without a denominator, too."""
    try:
        x, y = (float(side) for side in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None
