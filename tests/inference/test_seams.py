"""Tiles leave no trace: what comes out is what comes out in one piece, in the middle and at the border."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tvt_jax
from tvt_jax.diffusion import restore_latent
from tvt_jax.inference import Upscaler
from tvt_jax.inference.windows import Enlarged

PHOTO = Path(__file__).parents[2] / "examples" / "coffee.jpg"
# Too large for a batch of the smallest tiles, 9 of which it takes.
SIZE = (132, 132)


def photo():
    with Image.open(PHOTO) as image:
        return np.asarray(image.resize((SIZE[1] * 3 // 2, SIZE[0]), Image.Resampling.BICUBIC))[:, 30 : 30 + SIZE[1]]


def sky():
    """A gradient from deep to pale blue."""
    share = np.linspace(0, 1, SIZE[0])[:, None, None] * np.ones((*SIZE, 1))
    return np.rint([60, 110, 180] + share * [120, 100, 60]).astype(np.uint8)


def flat():
    return np.full((*SIZE, 3), (128, 120, 140), np.uint8)


def clouds():
    """Noise with as much in every octave."""
    rng = np.random.default_rng(0)
    octaves = (rng.normal(size=(2**n, 2**n)).astype(np.float32) * 0.6**n for n in range(1, 7))
    total = sum(np.asarray(Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BICUBIC)) for noise in octaves)
    share = (total - total.min()) / np.ptp(total)
    return np.rint(share[..., None] * [150, 120, 80] + [90, 120, 170]).astype(np.uint8)


def levels(folder_or_none, image):
    """The restored picture in pieces and in one, each in levels from 0 to 255, before they are rounded."""
    source = Enlarged(image, 4)
    x = source.window(0, 0, *source.size)[None]
    make = tvt_jax.load if folder_or_none is None else lambda **options: Upscaler(folder_or_none, **options)
    return tuple(127.5 * (make(tile=tile).restore(x)[0] + 1) for tile in (96, 288))


@pytest.mark.slow
@pytest.mark.parametrize(("picture", "largest"), [(photo, 1), (sky, 0.5), (flat, 0.5), (clouds, 1)])
def test_tiles_are_as_one_piece(picture, largest):
    tiled, whole = levels(None, picture())
    difference = np.abs(tiled - whole)
    # The limit for a sky or a flat area is what an eye might see; others hide a level.
    assert difference.max() < largest
    assert difference.mean() < 0.1


@pytest.mark.slow
def test_the_embedded_model_does_not_live_by_the_border():
    """A network that learnt on small crops alone reads brightness off their border, and is lost without one."""
    model = tvt_jax.load()
    source = Enlarged(photo()[:64, :64], 4)
    x = np.float32(source.window(0, 0, *source.size))[None]
    clean = restore_latent(model.vae.to_latent(x), model.unet, model.card.time_step)
    apart = 127.5 * np.abs(np.asarray(model.vae.to_image(clean)) - model.restore(x))[:, 64:-64, 64:-64]
    # 1.4 for a model of crops of 128 and 192 pixels, 21 for one whose VAE was trained on crops of 64.
    assert apart.mean() < 3


def test_tiles_of_a_random_model_are_as_one_piece(folder):
    """Twofold, so that tiles of 96 latent pixels are smaller; its attention reaches over all, which tiles can't."""
    source = Enlarged(photo(), 4)
    x = source.window(0, 0, 392, 392)[None]
    tiled, whole = (127.5 * Upscaler(folder, tile=tile).restore(x)[0] for tile in (96, 288))
    difference = np.abs(tiled - whole)
    assert difference.max() < 3
    assert difference.mean() < 0.1


def test_a_flat_picture_is_flat_to_its_border():
    result = tvt_jax.load().upscale(np.full((32, 40, 3), 128, np.uint8)).astype(int)
    assert np.abs(result - result[64, 80]).max() <= 1


def test_a_photo_s_border_is_no_further_from_bicubic_than_its_middle():
    image = photo()[:96, :96]
    bicubic = np.asarray(Image.fromarray(image).resize((384, 384), Image.Resampling.BICUBIC)).astype(float)
    difference = np.abs(tvt_jax.load().upscale(image) - bicubic)
    ring = np.ones((384, 384), bool)
    ring[2:-2, 2:-2] = False
    assert difference[ring].mean() <= difference[~ring].mean()
