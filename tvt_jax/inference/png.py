"""PNG files chunk by chunk: what is damaged or too large beside the pixels need not cost the picture."""

import struct
import zlib
from collections.abc import Iterable, Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER, _CONTENT, _END = b"IHDR", b"IDAT", b"IEND"
# What the pixels need; tRNS is the one ancillary chunk that changes them.
_PIXELS = (_HEADER, b"PLTE", b"tRNS", _CONTENT, _END)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row, and steps, of what a file holds one after the other: plain, and interlaced.
_PLAIN = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Bytes that are inflated at a time.
_PIECE = 2**20

Chunk = tuple[bytes, bytes]


def bits_of(data: bytes) -> int:
    """Give the bits a channel of a PNG."""
    return data[24]


def without_damage(data: bytes) -> tuple[bytes, list[str]]:
    """Give a PNG without what is damaged beside its pixels, and say what was.

    Raises:
        ValueError: it lacks pixels, or they are damaged.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != _HEADER or not chunks[0][2]:
        raise ValueError("its header is cut off or damaged")
    if damaged := [_printable(name) for name, _, good in chunks if not (good or _ancillary(name) or _checked(name))]:
        raise ValueError(f"what its pixels need has a wrong checksum ({', '.join(damaged)})")
    _check_pixels(chunks[0][1], (body for name, body, _ in chunks if name == _CONTENT))
    lost = [_printable(name) for name, _, good in chunks if not good and _ancillary(name)]
    faults = [f"left out what has a wrong checksum ({', '.join(lost)})"] if lost else []
    if not chunks[-1][2] or chunks[-1][0] != _END:
        faults.append("its end is missing, all pixels are there")
    elif not all(good for name, _, good in chunks if name == _CONTENT):
        faults.append("a checksum of its pixels is wrong, but the one within them is right")
    if not faults:
        return data, []
    kept = [(name, body) for name, body, good in chunks if name == _CONTENT or (good and name != _END)]
    return join([*kept, (_END, b"")]), faults


def pixels_alone(data: bytes) -> bytes:
    """Give a PNG without its texts, profiles and the like."""
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
    """Name, content, and whether the checksum is right, up to the end: what some programs leave behind it is none."""
    start, name = len(SIGNATURE), b""
    while start + 8 <= len(data) and name != _END:
        (length,) = struct.unpack_from(">I", data, start)
        name, body = data[start + 4 : start + 8], data[start + 8 : start + 8 + length]
        found = data[start + 8 + length : start + 12 + length]
        yield name, body, found == struct.pack(">I", zlib.crc32(name + body))
        start += 12 + length


def _check_pixels(header: bytes, bodies: Iterable[bytes]) -> None:
    """Inflate the pixels, which has a checksum of its own, and count them: decoders leave black what is missing."""
    wanted, found, inflate = _length(header), 0, zlib.decompressobj()
    try:
        for body in bodies:
            while body and not inflate.eof:
                found += len(inflate.decompress(body, _PIECE))
                body = inflate.unconsumed_tail
        found += len(inflate.flush())
    except zlib.error:
        raise ValueError("its pixels are damaged") from None
    if found < wanted:
        raise ValueError("it ends before all pixels are there")


def _length(header: bytes) -> int:
    """Count the bytes of all rows, each with the number of its filter."""
    width, height, bits, color, _, _, interlaced = struct.unpack(">2I5B", header)
    if color not in _CHANNELS or not width or not height:
        raise ValueError("its header is damaged")
    depth = bits * _CHANNELS[color]
    sizes = ((-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in (_ADAM7 if interlaced else _PLAIN))
    return sum(rows * (1 + (columns * depth + 7) // 8) for columns, rows in sizes if columns > 0)


def _ancillary(name: bytes) -> bool:
    return bool(name[:1] and name[0] & 0x20)


def _checked(name: bytes) -> bool:
    """Tell what needs no checksum: pixels have another one, and the end is empty."""
    return name in (_CONTENT, _END)


def _printable(name: bytes) -> str:
    return name.decode() if name.isalpha() else "?"
