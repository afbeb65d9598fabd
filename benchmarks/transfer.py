"""What the transfer to a 4x latent grid keeps: reconstruction, small text, and distance from the 8x encoder's latents.

    python -m benchmarks.transfer --vae8 V --decoder D --encoder E --scratch S --images DIR --out runs/transfer

Every row turns an image into a latent and back, at the image's own size; nothing is enlarged but what a row says.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, PyTree, UInt8

from benchmarks import report, text
from tvt_jax.data.sources import list_images, read_image
from tvt_jax.metrics.lpips import lpips
from tvt_jax.model_folder import ModelFolder, read_model
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig
from tvt_jax.pixels import from_uint8, to_uint8
from tvt_jax.stages.images import enlarge, psnr, shrink

SMALL = 14  # lines up to this many pixels count as small text
Images = UInt8[np.ndarray, "n h w 3"]
Latents = Float[np.ndarray, "n h w c"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Reconstruction and latents of the VAEs along the transfer.

    Attributes:
        vae8: model folder of the 8x VAE.
        decoder: model folder of the decoder stage.
        encoder: model folder of the encoder stage.
        scratch: model folder of a 4x VAE trained from nothing, if there is one.
        images: folder of photos that none of them was trained on.
        out: where the figures (.json) and tables (.md) go, besides the screen.
        crop: side of the squares cut out of the photos, and of the text pages, in pixels.
        crops: squares from each photo.
        pages: text pages.
        seed: of the text pages.
        batch: images at a time.
    """

    vae8: Path
    decoder: Path
    encoder: Path
    scratch: Path | None = None
    images: Path
    out: Path | None = None
    crop: int = 256
    crops: int = 4
    pages: int = 12
    seed: int = 0
    batch: int = 4


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """One row: how an image in [-1, 1] becomes a latent, and a latent an image."""

    name: str
    encode: Callable[[Array], Array]
    decode: Callable[[Array], Array]

    def __call__(self, images: Images, batch: int) -> tuple[Latents, Images]:
        """Encode and decode all images, `batch` at a time; return latents and reconstructions."""
        parts = []
        for start in range(0, len(images), batch):
            latent = self.encode(jnp.asarray(from_uint8(images[start : start + batch])))
            parts.append((np.asarray(latent), np.asarray(to_uint8(self.decode(latent)))))
        latents, restored = zip(*parts, strict=True)
        return np.concatenate(latents), np.concatenate(restored)


def measure(options: Options) -> dict[str, Any]:
    """Return all figures: `rows` (name -> set -> metric) and `latents` (name -> set -> distance from E8's latents).

    How many squares and lines they come from stands beside them, in `photo_crops` and `text_lines`.
    """
    pages = text_pages(options.pages, options.crop, options.seed)
    sets = {
        "photos": photo_crops(options.images, options.crop, options.crops),
        "text": np.stack([page.image for page in pages]),
    }
    enlarged, rows = load_rows(options)
    reader = text.load_reader()
    figures: dict[str, Any] = {"rows": {"the images themselves": {"text": error_rates(pages, sets["text"], reader)}}}
    reference = {name: enlarged(images, options.batch)[0] for name, images in sets.items()}
    distances: dict[str, Any] = {}
    for row in rows:
        measured: dict[str, Any] = {}
        for name, images in sets.items():
            latents, restored = row(images, options.batch)
            measured[name] = scores(images, restored)
            if row.encode is not enlarged.encode and latents.shape == reference[name].shape:
                distances.setdefault(row.name, {})[name] = latent_distance(latents, reference[name])
        measured["text"] |= error_rates(pages, restored, reader)
        figures["rows"][row.name] = measured
    return figures | {
        "latents": distances,
        "photo_crops": len(sets["photos"]),
        "text_lines": sum(len(page.lines) for page in pages),
    }


def load_rows(options: Options) -> tuple[Autoencoder, list[Autoencoder]]:
    """Load E8 on the enlarged image (E4 is to reproduce its latents), and the rows of the table.

    Raises:
        ValueError: the decoder stage learnt from another 8x VAE than `vae8`, or a VAE has the wrong downsampling.
    """
    eight = _read_vae(options.vae8, 8)
    decoder, encoder = _read_vae(options.decoder, 4), _read_vae(options.encoder, 4)
    if decoder.vae_source is not None and not _same(decoder.vae_source, eight.vae):
        raise ValueError(f"{options.decoder} was transferred from another 8x VAE than {options.vae8}")
    encode8, decode8 = networks(eight)
    _, decode4 = networks(decoder)

    def encode_enlarged(x: Array) -> Array:
        return encode8(enlarge(x, 2))

    enlarged = Autoencoder(
        name="8x VAE on the image enlarged 2x, result halved",
        encode=encode_enlarged,
        decode=lambda z: shrink(decode8(z), 2),
    )
    rows = [
        Autoencoder(name="8x VAE", encode=encode8, decode=decode8),
        enlarged,
        Autoencoder(name="4x, after the decoder stage: D4(E8(2x))", encode=encode_enlarged, decode=decode4),
        _plain("4x, after the encoder stage: D4(E4)", encoder),
    ]
    if options.scratch:
        rows.append(_plain("4x, trained from nothing", _read_vae(options.scratch, 4)))
    return enlarged, rows


def _read_vae(path: Path, downsampling: int) -> ModelFolder:
    folder = read_model(path, ["vae", "vae_source"])
    assert folder.vae_config is not None  # for the type checker: it was asked for
    if (found := folder.vae_config.downsampling) != downsampling:
        raise ValueError(f"{path} has a VAE that downsamples {found}x, expected {downsampling}x")
    return folder


def networks(folder: ModelFolder) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Return the encoder (to the posterior's mean) and the decoder of a model folder's VAE."""
    assert folder.vae_config is not None  # for the type checker: `_read_vae` asks for it
    encode, decode = _compiled(folder.vae_config)
    variables = {"params": folder.vae}
    return lambda x: encode(variables, x).mean, lambda z: decode(variables, z)


@cache
def _compiled(config: AutoencoderKLConfig) -> tuple[Callable[..., Any], Callable[..., Any]]:
    apply = AutoencoderKL(config).apply
    return jax.jit(partial(apply, method="encode")), jax.jit(partial(apply, method="decode"))


def photo_crops(folder: Path, side: int, count: int) -> Images:
    """Cut `count` squares from every photo under `folder`, evenly spaced on its diagonal; leave out smaller photos.

    Raises:
        ValueError: no photo is large enough.
    """
    crops = []
    for path in list_images(folder):
        pixels = read_image(path)
        if min(pixels.shape[:2]) < side:
            continue
        for part in (np.arange(count) + 0.5) / count:
            top, left = (int(part * (length - side)) for length in pixels.shape[:2])
            crops.append(pixels[top : top + side, left : left + side])
    if not crops:
        raise ValueError(f"{folder} has no photo of {side} pixels or more along each side")
    return np.stack(crops)


def text_pages(count: int, side: int, seed: int) -> list[text.TextPage]:
    """Draw pages of small text, the same for the same seed."""
    fonts = text.bundled_fonts()
    return [text.render_page(np.random.default_rng((seed, i)), fonts, height=side, width=side) for i in range(count)]


def scores(truth: Images, restored: Images) -> dict[str, float]:
    """Average PSNR in RGB and LPIPS-Alex over the images."""
    return {
        "psnr-rgb": float(psnr(jnp.asarray(from_uint8(restored)), jnp.asarray(from_uint8(truth))).mean()),
        "lpips-alex": float(
            np.mean([lpips(image, reference) for image, reference in zip(restored, truth, strict=True)])
        ),
    }


def error_rates(pages: Sequence[text.TextPage], images: Images, reader: text.Reader) -> dict[str, float]:
    """Return the character error rate of all lines (`cer`) and of those up to `SMALL` pixels (`cer_small`), if any."""
    read = list(_read_lines(pages, images, reader))
    small = [(line, found) for line, found in read if line.size <= SMALL]
    return {
        name: text.character_error_rate([line.text for line, _ in part], [found for _, found in part])
        for name, part in (("cer", read), ("cer_small", small))
        if part
    }


def latent_distance(latents: Latents, reference: Latents) -> dict[str, Any]:
    """Measure how far latents lie from the reference.

    `relative_error` is the norm of the difference over the norm of the reference; `correlation` is Pearson's, for each
    channel over all images and places.
    """
    a, b = (np.asarray(x, np.float64).reshape(-1, x.shape[-1]) for x in (latents, reference))
    return {
        "relative_error": float(np.linalg.norm(a - b) / np.linalg.norm(b)),
        "correlation": [float(np.corrcoef(a[:, i], b[:, i])[0, 1]) for i in range(a.shape[1])],
    }


def tables(figures: dict[str, Any]) -> str:
    """Make both tables in Markdown."""
    head = ("", "photos PSNR", "LPIPS", "text PSNR", "LPIPS", "CER %", f"CER % to {SMALL} px")
    rows = [(name, *_cells(measured)) for name, measured in figures["rows"].items()]
    latent_head = ("latents against E8(2x)", "photos error", "correlation", "text error", "correlation")
    latent_rows = [
        (name, *(cell for part in ("photos", "text") for cell in _latent_cells(distance[part])))
        for name, distance in figures["latents"].items()
    ]
    note = f"{figures['photo_crops']} photo crops, {figures['text_lines']} lines of text"
    return "\n\n".join([report.markdown(head, rows), report.markdown(latent_head, latent_rows), note])


def _cells(measured: dict[str, Any]) -> list[str]:
    cells = []
    for part in ("photos", "text"):
        for metric, form in (("psnr-rgb", "{:.2f}"), ("lpips-alex", "{:.4f}")):
            value = measured.get(part, {}).get(metric)
            cells.append("" if value is None else form.format(value))
    rates = [measured["text"].get(name) for name in ("cer", "cer_small")]
    return cells + ["" if rate is None else f"{100 * rate:.1f}" for rate in rates]


def _latent_cells(distance: dict[str, Any]) -> tuple[str, str]:
    return f"{distance['relative_error']:.3f}", " ".join(f"{value:.3f}" for value in distance["correlation"])


def _plain(name: str, folder: ModelFolder) -> Autoencoder:
    encode, decode = networks(folder)
    return Autoencoder(name=name, encode=encode, decode=decode)


def _same(a: PyTree, b: PyTree) -> bool:
    """Tell whether two parameter trees are equal up to the rounding of float16."""
    a, b = flatten_dict(a), flatten_dict(b)
    return a.keys() == b.keys() and all(
        a[name].shape == b[name].shape and np.allclose(a[name], b[name], rtol=2e-3, atol=1e-4) for name in a
    )


def _read_lines(
    pages: Sequence[text.TextPage], images: Images, reader: text.Reader
) -> Iterator[tuple[text.TextLine, str]]:
    for page, image in zip(pages, images, strict=True):
        yield from zip(page.lines, text.read_page(image, page.lines, reader), strict=True)


def main() -> None:
    """Measure, print the tables, and write them where asked."""
    options = tyro.cli(Options)
    figures = measure(options)
    print(tables(figures))
    if options.out:
        report.write(options.out, figures, tables(figures))


if __name__ == "__main__":
    report.run_as_command(main)
