import numpy as np
import pytest
from scipy.special import gamma

from tvt_jax.metrics import niqe as module
from tvt_jax.metrics.niqe import niqe


def test_equals_published(published_pair):
    image, _, expected = published_pair
    # On the whole benchmark the difference is 0.0016 on average and 0.014 at most: flat areas, where normalised values
    # are rounding errors whose sign counts.
    assert niqe(image) == pytest.approx(expected["NIQE"], abs=0.02)


@pytest.mark.parametrize("shape", [0.7, 2.0, 3.5])
def test_fit_finds_the_distribution_that_was_drawn_from(shape):
    generator = np.random.default_rng(0)
    magnitude = generator.gamma(1 / shape, size=400_000) ** (1 / shape)
    # The left scale's share of the mass is left / (left + right).
    left, right = 0.5, 2.0
    sign = generator.random(magnitude.size) < left / (left + right)
    values = np.where(sign, -left, right) * magnitude
    found = module._fit(values[None])
    # 400,000 draws: the deviation of each parameter is below half a percent.
    np.testing.assert_allclose(np.ravel(found), [shape, left, right], rtol=0.02)


def test_shape_ratios():
    a, b = gamma(1 / module._SHAPES), gamma(3 / module._SHAPES)
    np.testing.assert_allclose(module._SHAPE_RATIOS, gamma(2 / module._SHAPES) ** 2 / (a * b), rtol=1e-10)


def test_halving_is_matlabs_bicubic():
    # imresize((0:7)'.^2, 0.5), borders mirrored: a cubic kernel of twice the width.
    def cubic(t):
        t = abs(t)
        return 1.5 * t**3 - 2.5 * t**2 + 1 if t <= 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0

    line = np.arange(8.0) ** 2
    expected = []
    for i in range(4):
        taps = [(j, cubic((j - (2 * i + 0.5)) / 2) / 2) for j in range(2 * i - 4, 2 * i + 6)]
        expected.append(sum(weight * line[-1 - j if j < 0 else 15 - j if j > 7 else j] for j, weight in taps))
    halved = module._halve(np.tile(line, (6, 1)))
    # float32 arithmetic on values up to 49.
    np.testing.assert_allclose(halved, np.tile(expected, (3, 1)), atol=2e-5)


def test_noise_is_less_natural(published_pair):
    image, _, _ = published_pair
    noise = np.random.default_rng(0).normal(0, 25, image.shape)
    assert niqe(np.clip(image + noise, 0, 255).astype(np.uint8)) > niqe(image) + 1


def test_size_limit():
    with pytest.raises(ValueError, match="at least 96x192 pixels, got 191x150"):
        niqe(np.zeros((150, 191, 3), np.uint8))


def test_a_flat_image_has_no_statistics():
    with pytest.raises(ValueError, match="flat"):
        niqe(np.full((192, 192, 3), 77, np.uint8))
