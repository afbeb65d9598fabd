"""Reading pictures: every kind people have, as arrays of 8 or 16 bits, with nothing lost on the way that matters."""

import io
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import UInt
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from tvt_jax.inference import jpeg, png
from tvt_jax.inference.channels import turn_upright
from tvt_jax.inference.decoding import TIFF_SIGNATURES, decode_exactly
from tvt_jax.inference.metadata import Metadata, gather, mark_of, tiff_exif, tiff_info

READABLE = frozenset(".png .jpg .jpeg .jfif .jpe .webp .tif .tiff .bmp .gif .avif .heic .heif".split())

Stream = io.BytesIO | io.BufferedReader

_ORIENTATION = 274
# Pillow knows more kinds, of which some start other programs.
_KINDS = "PNG JPEG MPO WEBP TIFF BMP DIB GIF AVIF HEIF PPM".split()
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Profiles of printers and packets of edits have megabytes; Pillow's own limit is one.
PngImagePlugin.MAX_TEXT_CHUNK = 64 * 2**20
PngImagePlugin.MAX_TEXT_MEMORY = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture, upright.

    Attributes:
        pixels: uint8 or uint16 with 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA) channels.
        icc_profile: the profile they are in.
        metadata: what else its file told.
    """

    pixels: UInt[np.ndarray, "h w c"]
    icc_profile: bytes | None = None
    metadata: Metadata = Metadata()  # noqa: RUF009, it is frozen


def read_picture(path: Path) -> Picture:
    """Read the picture (of an animation or of several pages: the first) at `path`; see `decode_picture`."""
    return decode_picture(path.read_bytes(), str(path))


def decode_picture(data: bytes, name: str) -> Picture:
    """Decode a file's content, and turn the picture upright by its EXIF tag.

    PNG and TIFF of 16 bits a channel stay so. Palettes become RGB, CMYK becomes sRGB (by its profile where it has
    one). Damage that costs no pixels is a warning.

    Raises:
        ValueError: it can't be read; the message names it by `name`.
    """
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            picture = _decode(data)
        except UnidentifiedImageError:
            raise ValueError(f"{name} can't be read as a picture: its content is of no kind that is known") from None
        # Decoders raise whatever they like on a broken file: SyntaxError, struct.error, EOFError, TiffFileError ...
        except Exception as error:
            why = str(error).strip() or f"it is damaged ({type(error).__name__})"
            raise ValueError(f"{name} can't be read as a picture: {why}") from error
    for warning in found:
        warnings.warn(f"{name}: {warning.message}", stacklevel=2)
    return picture


def size_of(path: Path) -> tuple[int, int] | None:
    """Height and width of the picture at `path`, upright or not, from its header; None where that doesn't tell."""
    with suppress(OSError), path.open("rb") as file:
        return size_in(file)
    return None


def size_in(stream: Stream) -> tuple[int, int] | None:
    """Height and width of the picture in an open file, as `size_of`."""
    size = _header_size(stream)
    return size if size and all(size) else None


def _header_size(stream: Stream) -> tuple[int, int] | None:
    # Decoders raise whatever they like on a broken file, and reading it whole tells what is wrong.
    with suppress(Exception), warnings.catch_warnings(action="ignore"):
        header = stream.read(24)
        stream.seek(0)
        if header.startswith(png.SIGNATURE) and header[12:16] == b"IHDR":
            width, height = struct.unpack(">2I", header[16:])
            return height, width
        if header.startswith(TIFF_SIGNATURES):
            # Pillow doesn't know them all.
            with tifffile.TiffFile(stream) as file:
                return file.pages.first.imagelength, file.pages.first.imagewidth
        image = _open(stream)
        return image.height, image.width
    return None


def read_mark(path: Path) -> str | None:
    """Give the mark of a file that `write_picture` marked; None for any other."""
    with suppress(Exception), warnings.catch_warnings(action="ignore"), path.open("rb") as file:
        if path.suffix.lower() not in (".tif", ".tiff"):
            return mark_of(_open(file).getexif())
        return mark_of(tiff_exif(file))
    return None


def pixels_of(image: Image.Image) -> UInt[np.ndarray, "h w c"]:
    """Give the pixels of an image of any mode, upright: grey, grey and alpha, RGB or RGBA.

    Raises:
        ValueError: it has 32 bits a channel.
    """
    return _from_image(image).pixels


def _open(stream: Stream) -> Image.Image:
    header = stream.read(12)
    stream.seek(0)
    if header[4:8] == b"ftyp" and header[8:12] in _HEIC_BRANDS:
        _register_heic()
    Image.init()
    return Image.open(stream, formats=[kind for kind in _KINDS if kind in Image.OPEN])


def _register_heic() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise ValueError("HEIC pictures need pillow-heif: pip install 'tvt-jax[heic]'") from None
    register_heif_opener()


def _decode(data: bytes) -> Picture:
    if data.startswith(png.SIGNATURE):
        data, faults = png.without_damage(data)
        for fault in faults:
            warnings.warn(fault, stacklevel=2)
    pixels = decode_exactly(data)
    if pixels is not None:
        return _finish(pixels, *_told(data))
    with _open(io.BytesIO(data)) as image:
        return _from_image(jpeg.loaded(image, data) if image.format in jpeg.KINDS else image)


def _told(data: bytes) -> tuple[Image.Exif, dict]:
    """Give what a file tells whose pixels Pillow need not open."""
    if data.startswith(TIFF_SIGNATURES):
        try:
            exif = tiff_exif(io.BytesIO(data))
        # Damaged, or a big-endian BigTIFF, which Pillow doesn't know.
        except Exception as error:
            warnings.warn(f"what it tells beside its pixels can't be read ({error})", stacklevel=2)
            exif = Image.Exif()
        return exif, tiff_info(exif)
    with _open(io.BytesIO(data)) as image:
        return _exif_of(image), image.info


def _exif_of(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    # Pillow raises whatever a damaged directory makes it stumble over.
    except Exception as error:
        warnings.warn(f"the EXIF data is damaged and left out ({error})", stacklevel=2)
        return Image.Exif()


def _from_image(image: Image.Image) -> Picture:
    exif, info = _exif_of(image), dict(image.info)
    if image.mode == "CMYK":
        image, info["icc_profile"] = _cmyk_to_rgb(image, info.get("icc_profile")), None
    return _finish(_plain(image), exif, info)


def _finish(pixels: np.ndarray, exif: Image.Exif, info: dict) -> Picture:
    pixels = turn_upright(pixels.reshape(*pixels.shape[:2], -1), exif.get(_ORIENTATION, 1))
    profile = info.get("icc_profile")
    # Bytes 16-20 of an ICC header name the colour space: a profile for another one would make the result unreadable.
    keep = profile is not None and profile[16:20] == (b"GRAY" if pixels.shape[-1] < 3 else b"RGB ")
    return Picture(pixels=pixels, icc_profile=profile if keep else None, metadata=gather(exif, info))


def _plain(image: Image.Image) -> np.ndarray:
    """To grey, grey and alpha, RGB or RGBA."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a channel have no agreed range: save it with 8 or 16 bits")
    color = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    return np.asarray(image.convert(color + "A" if image.has_transparency_data else color))


def _cmyk_to_rgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    converted = None
    if icc_profile:
        # With a broken profile the plain formula is better than no picture.
        with suppress(ImageCms.PyCMSError, OSError):
            profiles = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    return converted or image.convert("RGB")
