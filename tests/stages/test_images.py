import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tvt_jax.pixels import from_uint8
from tvt_jax.stages.images import enlarge, psnr, shrink

LEVEL = 2 / 255


@pytest.fixture
def noise():
    """Noise of full contrast: the hardest picture to enlarge."""
    return np.random.default_rng(0).integers(0, 256, (1, 9, 12, 3), np.uint8)


@pytest.fixture
def smooth():
    rows, columns = np.mgrid[:9, :12]
    return (20 + 15 * np.stack([rows, columns, (rows + columns) / 2], axis=-1)[None]).astype(np.uint8)


def pillow(channel, factor):
    height, width = channel.shape
    return np.asarray(Image.fromarray(channel).resize((width * factor, height * factor), Image.Resampling.BICUBIC))


def test_to_float():
    pixels = jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    expected = np.arange(256) / 127.5 - 1
    np.testing.assert_allclose(from_uint8(pixels)[0, ..., 0].ravel(), expected, atol=1e-7)  # one rounding


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_is_pillows_bicubic_on_floats(noise, factor):
    image = from_uint8(jnp.asarray(noise))
    expected = np.stack([pillow(channel, factor) for channel in np.asarray(image[0]).transpose(2, 0, 1)], axis=-1)
    assert np.abs(expected).max() > 1.05  # bicubic overshoots, so clipping is seen too
    enlarged = jax.jit(enlarge, static_argnums=1)(image, factor)[0]
    # Sums of 16 float32 numbers.
    np.testing.assert_allclose(enlarged, np.clip(expected, -1, 1), atol=3e-6)


def test_distance_from_pillow_on_bytes(smooth, noise):
    """Between its two passes Pillow rounds bytes and cuts off what overshoots; here neither happens."""
    distances = []
    for pixels in (smooth, noise):
        ours = enlarge(from_uint8(jnp.asarray(pixels)), 4)[0]
        bytes_ = np.stack([pillow(channel, 4) for channel in pixels[0].transpose(2, 0, 1)], axis=-1)
        distances.append(np.abs(ours - (bytes_ / 127.5 - 1)) / LEVEL)
    of_smooth, of_noise = distances
    assert of_smooth.max() < 1.2  # two roundings of half a level, the first spread by weights of 1.25 in sum
    assert of_noise.mean() < 1.0  # most pixels are as near
    assert of_noise.max() < 30  # but not where the first pass overshot


def test_shrinking_averages_squares():
    image = np.random.default_rng(0).uniform(-1, 1, (2, 6, 4, 3)).astype(np.float32)
    expected = (image[:, ::2, ::2] + image[:, 1::2, ::2] + image[:, ::2, 1::2] + image[:, 1::2, 1::2]) / 4
    np.testing.assert_allclose(shrink(jnp.asarray(image), 2), expected, atol=1e-6)


def test_psnr():
    image = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 6, 4, 3))
    target = np.random.default_rng(1).uniform(-1, 1, image.shape)
    error = ((np.clip(image, -1, 1) - target) ** 2).mean((1, 2, 3)) / 4  # of images in [0, 1]
    images = jnp.asarray(image, jnp.float32), jnp.asarray(target, jnp.float32)
    np.testing.assert_allclose(psnr(*images), -10 * np.log10(error), atol=1e-4)
    assert psnr(images[1], images[1]).max() < 111  # finite for equal images
