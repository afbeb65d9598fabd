"""Kernels against their definitions, written out with covariance matrices and integrals in float64."""

import numpy as np
import pytest

from tvt_jax.data.kernels import KERNEL_KINDS, Kernel, kernel_taps

# float32 taps of at most 1: a rounding is below 6e-8, and the normalisation adds another.
TOLERANCE = 2e-7


def bivariate_by_covariance(kernel: Kernel) -> np.ndarray:
    turn = np.array(
        [[np.cos(kernel.rotation), -np.sin(kernel.rotation)], [np.sin(kernel.rotation), np.cos(kernel.rotation)]]
    )
    precision = np.linalg.inv(turn @ np.diag([kernel.sigma_x**2, kernel.sigma_y**2]) @ turn.T)
    taps = np.zeros((kernel.size, kernel.size))
    for row in range(kernel.size):
        for column in range(kernel.size):
            offset = np.array([column, row]) - kernel.size // 2
            distance = (offset @ precision @ offset) ** kernel.beta
            taps[row, column] = 1 / (distance + 1) if "plateau" in kernel.kind else np.exp(-0.5 * distance)
    return taps / taps.sum()


@pytest.mark.parametrize("kind", KERNEL_KINDS[:-1])
@pytest.mark.parametrize("size", [7, 21])
def test_bivariate_families_follow_their_definition(kind, size):
    aniso = kind.endswith("aniso")
    kernel = Kernel(
        kind=kind,
        size=size,
        sigma_x=1.3,
        sigma_y=0.6 if aniso else 1.3,
        rotation=0.7 if aniso else 0.0,
        beta=1.0 if kind in ("iso", "aniso") else 1.7,
    )
    np.testing.assert_allclose(kernel_taps(kernel), bivariate_by_covariance(kernel), atol=TOLERANCE)


def test_sinc_is_the_inverse_transform_of_a_disc():
    cutoff, size = 1.5, 13
    # Mean over angles of the plane waves inside the disc of radius `cutoff`, by the midpoint rule.
    radii = (np.arange(400) + 0.5) / 400 * cutoff
    angles = (np.arange(200) + 0.5) / 200 * 2 * np.pi
    x = np.hypot(*np.meshgrid(np.arange(size) - size // 2, np.arange(size) - size // 2))
    waves = np.cos(x[..., None, None] * radii[:, None] * np.cos(angles)).mean(-1)
    expected = (waves * radii).sum(-1)
    taps = kernel_taps(Kernel(kind="sinc", size=size, cutoff=cutoff))
    # The midpoint rule with 400 radii is good to about 2e-5 of the largest tap, which is 0.16.
    np.testing.assert_allclose(taps, expected / expected.sum(), atol=5e-6)


def test_sinc_passes_below_its_cutoff_and_stops_above():
    taps = kernel_taps(Kernel(kind="sinc", size=21, cutoff=np.pi / 2))
    response = np.abs(np.fft.fft2(taps, (64, 64)))[0]
    frequency = 2 * np.pi * np.arange(64) / 64
    # A window of 21 taps rings by some per cent on both sides.
    assert np.all(abs(response[frequency < 0.35 * np.pi] - 1) < 0.15)
    assert np.all(response[(frequency > 0.65 * np.pi) & (frequency < np.pi)] < 0.15)


@pytest.mark.parametrize("kind", KERNEL_KINDS)
def test_taps_sum_to_one_and_are_point_symmetric(kind):
    taps = kernel_taps(Kernel(kind=kind, size=15, sigma_x=0.2, sigma_y=0.2, beta=0.5, cutoff=1.0))
    assert taps.dtype == np.float32
    assert abs(taps.sum() - 1) < 1e-5
    np.testing.assert_allclose(taps, taps[::-1, ::-1], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"kind": "box"}, "box"), ({"kind": "iso", "size": 8}, "8"), ({"kind": "iso", "sigma_x": 0.0}, r"0\.0")],
)
def test_a_wrong_kernel_raises_with_its_value(wrong, named):
    # beartype, which checks the annotations in tests, may see a wrong literal first.
    with pytest.raises(Exception, match=named):
        Kernel(**{"size": 7, **wrong})
