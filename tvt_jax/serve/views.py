"""What a browser is shown of pictures: 8 bits, opaque, no larger than a phone's browser takes, and lossless."""

import io
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt, UInt8
from PIL import Image

from tvt_jax.inference.channels import enlarge, to_8_bits
from tvt_jax.inference.images import Picture
from tvt_jax.serve.blob import Blob

SHOWN_PIXELS = 16_000_000
_SMALL_SIDE = 640


@dataclass(frozen=True, kw_only=True)
class View:
    """Two PNGs to lay over each other.

    Attributes:
        before: the picture enlarged, by what strength 0 is.
        after: the picture restored.
        size: height and width of the result.
        share: of its sides that the PNGs have; 1 unless it is too large to be shown.
        part: left and top of the part of the picture that they show; None is all of it.
    """

    before: Blob
    after: Blob
    size: tuple[int, int]
    share: float
    part: tuple[int, int] | None

    def close(self) -> None:
        """Free them."""
        self.before.close()
        self.after.close()


def small(picture: Picture) -> bytes:
    """Give a small JPEG of a picture, to choose a part in."""
    image = _opaque(picture.pixels)
    image.thumbnail((_SMALL_SIDE, _SMALL_SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90, icc_profile=picture.icc_profile)
    return stream.getvalue()


def view(picture: Picture, result: UInt[np.ndarray, "H W c"], part: tuple[int, int] | None) -> View:
    """Lay a picture, or a part of one, and what was made of it over each other."""
    size = (result.shape[0], result.shape[1])
    share = min(1.0, (SHOWN_PIXELS / (size[0] * size[1])) ** 0.5)
    shown = (max(1, int(size[0] * share)), max(1, int(size[1] * share)))
    before, after = _opaque(enlarge(to_8_bits(picture.pixels), shown)), _opaque(result)
    if share < 1:
        # Shrunk by whole pixels first: the result may have hundreds of megapixels.
        after = after.resize(shown[::-1], Image.Resampling.LANCZOS, reducing_gap=2)
    pngs = [_png(image, picture.icc_profile) for image in (before, after)]
    return View(before=pngs[0], after=pngs[1], size=size, share=share, part=part)


def _png(image: Image.Image, icc_profile: bytes | None) -> Blob:
    stream = io.BytesIO()
    # Half a second for 16 megapixels, where the default level takes several.
    image.save(stream, "PNG", compress_level=1, icc_profile=icc_profile)
    return Blob(stream.getvalue())


def _opaque(pixels: UInt[np.ndarray, "h w c"]) -> Image.Image:
    """On white: half transparent pictures over each other would show both."""
    eight: UInt8[np.ndarray, "h w c"] = to_8_bits(pixels)
    image = Image.fromarray(eight.squeeze(-1) if eight.shape[-1] == 1 else eight)
    if "A" not in image.mode:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert(image.mode.rstrip("A"))
