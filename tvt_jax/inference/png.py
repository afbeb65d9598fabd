"""PNG files chunk by chunk: what is damaged or too large beside the pixels need not cost the picture."""

import struct
import zlib
from collections.abc import Iterable, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# What the pixels need; tRNS is the one ancillary chunk that changes them.
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")

Chunk = tuple[bytes, bytes]


def bits_of(data: bytes) -> int:
    """Give the bits a channel of a PNG."""
    return data[24]


def without_damage(data: bytes) -> tuple[bytes, list[str]]:
    """Give a PNG without the ancillary chunks whose checksum is wrong, and the names of these."""
    damaged = [name for name, _, good in _chunks(data) if not good and _ancillary(name)]
    if not damaged:
        return data, []
    kept = ((name, body) for name, body, good in _chunks(data) if good or not _ancillary(name))
    # Critical chunks are written with a right checksum here: a wrong one must stay an error.
    if any(not good and not _ancillary(name) for name, _, good in _chunks(data)):
        return data, []
    return join(kept), [name.decode("ascii", "replace") for name in damaged]


def pixels_alone(data: bytes) -> bytes:
    """Give a PNG without its texts, profiles and the like."""
    if any(not good for name, _, good in _chunks(data) if name in _PIXELS):
        raise ValueError("a checksum is wrong")
    return join((name, body) for name, body, _ in _chunks(data) if name in _PIXELS)


def with_chunks_of(data: bytes, other: bytes) -> bytes:
    """Give a PNG with all that another one tells beside its pixels."""
    told = [(name, body) for name, body, _ in _chunks(other) if name not in _PIXELS]
    header, *rest = ((name, body) for name, body, _ in _chunks(data) if name in _PIXELS)
    return join([header, *told, *rest])


def join(chunks: Iterable[Chunk]) -> bytes:
    """Make a PNG of chunks."""
    packed = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return SIGNATURE + b"".join(packed)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Name, content, and whether the checksum is right."""
    start = len(SIGNATURE)
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        name, body = data[start + 4 : start + 8], data[start + 8 : start + 8 + length]
        found = data[start + 8 + length : start + 12 + length]
        yield name, body, found == struct.pack(">I", zlib.crc32(name + body))
        start += 12 + length


def _ancillary(name: bytes) -> bool:
    return bool(name[0] & 0x20)
