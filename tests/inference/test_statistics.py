import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.inference.statistics import (
    Norms,
    box_moments,
    corrected,
    correction,
    no_correction,
    pool,
    with_norms,
)
from tvt_jax.models.layers import GroupNorm, Moments

WHOLE = np.array([[0, 1, 0, 1]], np.float32)


def features(*shape):
    return np.random.default_rng(0).normal(0.3, 2, shape).astype(np.float32)


def moments_of(x, groups):
    """In float64, by hand."""
    grouped = x.astype(np.float64).reshape(len(x), -1, groups, x.shape[-1] // groups)
    return grouped.mean((1, 3)), grouped.var((1, 3))


def test_the_moments_of_a_box():
    x = features(2, 8, 16, 6)
    boxes = np.array([[0.25, 0.75, 0, 0.5], [0, 1, 0.5, 1]], np.float32)
    moments = box_moments(x, boxes, 3)
    for i, part in enumerate((x[:1, 2:6, :8], x[1:, :, 8:])):
        for ours, expected in zip(moments, moments_of(part, 3), strict=True):
            np.testing.assert_allclose(ours[i], expected[0], rtol=1e-5, atol=1e-6)


def test_a_box_smaller_than_a_pixel_has_that_pixel_s_moments():
    x = features(1, 4, 4, 4)
    box = np.array([[0.3, 0.31, 0.55, 0.6]], np.float32)
    mean, variance = moments_of(x[:, 1:2, 2:3], 2)
    ours = box_moments(x, box, 2)
    np.testing.assert_allclose(ours.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(ours.variance, variance, rtol=1e-4, atol=1e-6)


def test_boxes_that_share_a_picture_pool_to_it():
    x = features(1, 8, 8, 4)
    # The cut runs through pixels: what each box has of them adds up.
    boxes = np.array([[0, 0.3, 0, 1], [0.3, 1, 0, 0.45], [0.3, 1, 0.45, 1]], np.float32)
    seen = [({"norm": box_moments(x, box[None], 2)}, box[None]) for box in boxes]
    pooled = pool(seen)["norm"]
    for ours, expected in zip(pooled, moments_of(x, 2), strict=True):
        np.testing.assert_allclose(ours, expected[0], rtol=1e-5)


def test_a_box_of_nothing_counts_for_nothing():
    x = features(2, 8, 8, 4)
    boxes = np.array([[0, 1, 0, 1], [0, 0, 0, 0]], np.float32)
    pooled = pool([({"norm": box_moments(x, boxes, 2)}, boxes)])["norm"]
    np.testing.assert_allclose(pooled.variance, moments_of(x[:1], 2)[1][0], rtol=1e-5)


def test_a_correction_makes_some_moments_those_of_all():
    some, every = (Moments(*(np.abs(features(1, n, 1, 3))[0, -1, 0] for _ in "mv")) for n in (2, 5))
    by = correction({"norm": some}, {"norm": every})["norm"]
    for ours, expected in zip(corrected(some, by), every, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.fixture
def norm():
    layer = GroupNorm(2)
    params = layer.init(jax.random.key(0), jnp.ones((1, 2, 2, 4)))
    return lambda x: layer.apply(params, jnp.asarray(x))


def test_the_whole_is_normalised_as_without(norm):
    x = features(1, 8, 8, 4)
    result, seen = with_norms(Norms(WHOLE), lambda: norm(x))
    np.testing.assert_allclose(result, norm(x), atol=1e-5)
    assert seen.keys() == {""}


def test_given_moments_are_gone_by(norm):
    x = features(1, 8, 8, 4)
    told = {"": Moments(np.array([1, 2], np.float32), np.array([4, 9], np.float32))}
    result, seen = with_norms(Norms(WHOLE, told, np.asarray(True)), lambda: norm(x))
    expected = (x - np.repeat([1, 2], 2)) / np.sqrt(np.repeat([4, 9], 2) + 1e-6)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    np.testing.assert_allclose(seen[""].mean, moments_of(x, 2)[0], rtol=1e-4)


def test_a_batch_is_normalised_together(norm):
    x = features(2, 8, 8, 4)
    boxes = np.repeat(WHOLE, 2, 0)
    together = np.concatenate(np.split(x, 2), axis=1)
    _, seen = with_norms(Norms(boxes), lambda: norm(x))
    result, _ = with_norms(Norms(boxes, no_correction(seen), np.asarray(False)), lambda: norm(x))
    np.testing.assert_allclose(np.concatenate(np.split(result, 2), axis=1), norm(together), atol=1e-5)


def test_a_network_that_runs_twice_has_other_statistics_each_time():
    norm, x = GroupNorm(2), jnp.asarray(features(1, 4, 4, 4))
    params = norm.init(jax.random.key(0), x)
    _, seen = with_norms(Norms(WHOLE), lambda: [norm.apply(params, part) for part in (x, 3 * x)])
    first, second = seen.values()
    np.testing.assert_allclose(second.mean, 3 * first.mean, rtol=1e-5)
