"""JPEG files that stop short: decoders make grey of what is missing, or refuse what is whole but for its end marker."""

import io
import warnings

from PIL import Image

KINDS = ("JPEG", "MPO")
_END, _MARKER, _PIXELS = b"\xff\xd9", b"\xff", b"\xff\xda"
# So many zeros at the end are what was to be downloaded or copied yet.
_PADDING = b"\0" * 16


def loaded(image: Image.Image, data: bytes) -> Image.Image:
    """Decode an opened JPEG, whose end marker may be missing, with a warning, if all pixels are there.

    Raises:
        ValueError: it lacks pixels.
    """
    if data.endswith(_PADDING) and not _has_end(data):
        return _without_end(data.rstrip(b"\0"))
    try:
        image.load()
    except OSError:
        return _without_end(data)
    return image


def _has_end(data: bytes) -> bool:
    """Tell whether an end marker follows the first pixels; thumbnails before them have their own."""
    start = 2
    while data.startswith(_MARKER, start) and not data.startswith(_PIXELS, start):
        start += 2 + int.from_bytes(data[start + 2 : start + 4])
    return _END in data[start:]


def _without_end(data: bytes) -> Image.Image:
    """Decode a JPEG that lacks its end marker, which all pixels may precede.

    If so, what is put between them and a new marker changes none.
    """
    data = data.removesuffix(b"\xff")
    fills = (b"", b"\x55" * 64, b"\xaa" * 64)
    images = [Image.open(io.BytesIO(data + fill + _END)) for fill in fills]
    try:
        whole = len({image.tobytes() for image in images}) == 1
    except OSError:  # it ends within a table
        whole = False
    if not whole:
        raise ValueError("it ends before all pixels are there")
    warnings.warn("its end marker is missing, all pixels are there", stacklevel=2)
    return images[0]
