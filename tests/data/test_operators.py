"""Operators against scipy, torch, Pillow and closed forms."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats

from tvt_jax.data.kernels import KERNEL_KINDS, Kernel, kernel_taps
from tvt_jax.data.operators import (
    GREY_WEIGHTS,
    NORMAL,
    SHOT_PLACES,
    Noise,
    _shot_noise,
    add_noise,
    blur,
    from_levels,
    jpeg,
    resize,
    to_levels,
)


def random_image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((*shape, 3), np.float32)


@pytest.mark.parametrize("kind", KERNEL_KINDS)
@pytest.mark.parametrize("shape", [(33, 20), (4, 4), (1, 5)])
def test_blur_is_a_correlation_with_mirrored_borders(kind, shape):
    x = random_image(*shape)
    kernel = Kernel(
        kind=kind, size=21, sigma_x=2.0, sigma_y=0.7 if kind.endswith("aniso") else 2.0, beta=1.4, cutoff=1.2
    )
    expected = ndimage.correlate(x.astype(np.float64), kernel_taps(kernel)[..., None].astype(np.float64), mode="mirror")
    # OpenCV filters in float32, large kernels by a Fourier transform.
    np.testing.assert_allclose(blur(x, kernel), expected, atol=2e-6)


def test_blur_with_nothing_drawn_does_nothing():
    x = random_image(5, 6)
    assert blur(x, None) is x


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(31, 45), (11, 7), (1, 1), (64, 50)])
def test_resize_by_interpolation_equals_torch(mode, size):
    x = random_image(25, 30)
    channels_first = torch.from_numpy(x).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(channels_first, size=size, mode=mode)[0].permute(1, 2, 0).numpy()
    # Both compute weights in float32, in a different order.
    np.testing.assert_allclose(resize(x, size, mode), expected, atol=5e-6)


@pytest.mark.parametrize("size", [(25, 10), (11, 7), (1, 1)])
def test_resize_by_area_is_the_mean_over_the_footprint(size):
    x = random_image(25, 30)

    def overlaps(old: int, new: int) -> np.ndarray:
        edges = np.arange(new + 1) * old / new
        pixels = np.arange(old)
        covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        return np.clip(covered, 0, None) * new / old

    expected = np.einsum("yh,xw,hwc->yxc", overlaps(25, size[0]), overlaps(30, size[1]), x)
    # A float32 sum of up to 750 pixels.
    np.testing.assert_allclose(resize(x, size, "area"), expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [1.0, 30.0])
def test_gaussian_noise_has_its_standard_deviation(sigma):
    x = np.full((200, 200, 3), 0.5, np.float32)
    noise = add_noise(x, Noise(kind="gaussian", strength=sigma, grey=False), np.random.default_rng(0)) - x
    # 120,000 samples: the standard error of a deviation is 0.2 %, of the mean 0.3 % of sigma.
    assert noise.std() * 255 == pytest.approx(sigma, rel=0.01)
    assert abs(noise.mean()) * 255 < 0.015 * sigma
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_grey_noise_is_the_same_in_all_channels(kind):
    x = 0.4 + 0.2 * random_image(40, 40)
    noise = add_noise(x, Noise(kind=kind, strength=0.5, grey=True), np.random.default_rng(0)) - x
    assert noise.std() > 1e-4
    # Sums of numbers near 0.5 round to 6e-8.
    np.testing.assert_allclose(noise, noise[..., :1].repeat(3, -1), atol=2e-7)


@pytest.mark.parametrize("grey", [False, True])
def test_poisson_noise_agrees_with_torch(grey):
    """The published arithmetic with torch.poisson in place of numpy's: mean and spread for every level."""
    levels = np.random.default_rng(0).choice([16, 60, 128, 200, 230], size=(300, 300, 1)).astype(np.uint8)
    x = from_levels(levels.repeat(3, -1))

    seen = from_levels(to_levels((x @ GREY_WEIGHTS)[..., None] if grey else x))
    counts = 2.0 ** np.ceil(np.log2(len(np.unique(seen))))
    generator = torch.Generator().manual_seed(0)
    expected = torch.poisson(torch.from_numpy(seen) * counts, generator=generator).numpy() / counts - seen

    strength = 0.1  # so small that nothing is clipped
    noise = (add_noise(x, Noise(kind="poisson", strength=strength, grey=grey), np.random.default_rng(1)) - x) / strength
    assert counts == 8
    for level in np.unique(levels):
        here = levels[..., 0] == level
        # At least 17,000 samples a level: 5 standard errors of a mean are 4 % of the deviation, of a deviation 3 %.
        deviation = expected[here].std()
        assert abs(noise[here].mean() - expected[here].mean()) < 0.06 * deviation
        assert noise[here].std() == pytest.approx(deviation, rel=0.05)
        assert noise[here].std() == pytest.approx(np.sqrt(level / 255 / counts), rel=0.05)


def test_poisson_noise_of_one_level_counts_whole_quanta():
    x = np.ones((20, 20, 3), np.float32) * 0.5
    noisy = add_noise(x, Noise(kind="poisson", strength=1.0, grey=False), np.random.default_rng(0))
    # One level gives one count, so the level 128 becomes 0, 1 (or more, clipped), shifted by its rounding to a level.
    assert set(np.unique(np.round(noisy, 2))) <= {0.0, 1.0}


@pytest.mark.parametrize("counts", [1, 2, 64, 256])
def test_shot_noise_is_distributed_by_poisson(counts):
    """The steps of the table are as far from the distribution function as half a place, and keep its spread."""
    table = _shot_noise(counts)
    for level in (0, 1, 20, 128, 255):
        mean = level / 255 * counts
        drawn = np.rint(table[level] * counts + mean)
        reached = np.arange(drawn.max() + 1)
        share = (drawn[:, None] <= reached).mean(0)
        assert np.abs(share - stats.poisson.cdf(reached, mean)).max() <= 0.5 / SHOT_PLACES + 1e-9
        # What lies beyond the last place is missing, which tells most where a pixel seldom gets a count.
        assert drawn.var() == pytest.approx(mean, rel=0.015)


def test_gaussian_noise_is_distributed_by_gauss():
    # Half a place, and float32's rounding.
    assert stats.kstest(NORMAL, "norm").statistic <= 0.51 / len(NORMAL)
    assert NORMAL.std(dtype=float) == pytest.approx(1, abs=1e-4)


def test_noise_is_clipped():
    for kind, strength in (("gaussian", 200.0), ("poisson", 5.0)):
        noisy = add_noise(
            random_image(50, 50), Noise(kind=kind, strength=strength, grey=False), np.random.default_rng(0)
        )
        assert noisy.dtype == np.float32
        assert (noisy.min(), noisy.max()) == (0, 1)


@pytest.mark.parametrize("quality", [30, 75, 100])
@pytest.mark.parametrize("shape", [(40, 56), (37, 21), (1, 1)])
def test_jpeg_agrees_with_pillow(quality, shape):
    smooth = ndimage.gaussian_filter(random_image(*shape), (2, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(to_levels(smooth)).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    expected = from_levels(np.asarray(Image.open(buffer)))
    # Two builds of libjpeg-turbo: a rounding in the transform may move a level.
    np.testing.assert_allclose(jpeg(smooth, quality), expected, atol=2.1 / 255)


def test_rounding_to_levels_and_back_is_exact():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (to_levels(from_levels(levels)) == levels).all()
    assert to_levels(np.array([-0.5, 0.0019, 0.0021, 1.5], np.float32)).tolist() == [0, 0, 1, 255]
