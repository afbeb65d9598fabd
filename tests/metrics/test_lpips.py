import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.metrics.lpips import lpips
from tvt_jax.models.perceptual import LPIPS, load_lpips


@pytest.mark.slow
def test_equals_published(published_pair):
    image, truth, expected = published_pair
    # Most likely scored on a GPU, whose convolutions round their inputs.
    assert lpips(image, truth) == pytest.approx(expected["LPIPS"], abs=2e-4)


def test_is_the_network_on_minus_1_to_1(pair):
    x, y = (jnp.asarray(image[None] / np.float32(127.5) - 1) for image in pair)
    expected = jax.jit(LPIPS("alex").apply)({"params": load_lpips("alex")}, x, y)[0]
    # float32 in another order of fusion.
    assert lpips(*pair) == pytest.approx(float(expected), rel=1e-5)


def test_equal_images_are_at_distance_0(pair):
    # Rounding, squared: the two features are computed by separately fused code.
    assert lpips(pair[0], pair[0]) == pytest.approx(0, abs=1e-12)
