"""What every stage does with a batch: parts of it amount to the whole, and the average follows the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.stages.training import accumulate, moving_average


def test_moving_average_is_shorter_at_the_start():
    average, params = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([3.0, -2.0])}
    for step, decay in ((0, 0.1), (10, 0.55), (10**6, 0.99)):
        expected = decay * np.array([1.0, 2.0]) + (1 - decay) * np.array([3.0, -2.0])
        np.testing.assert_allclose(moving_average(average, params, 0.99, jnp.int32(step))["a"], expected, rtol=1e-6)


def mean_loss(weights, batch, _):
    """Of a linear model; the mean over the images of the batch."""
    value, gradient = jax.value_and_grad(lambda w: jnp.square(batch["x"] @ w - batch["y"]).mean())(weights)
    return {"w": gradient}, {"loss": value}


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_parts_of_a_batch_amount_to_the_whole(parts):
    generator = np.random.default_rng(0)
    weights, x, y = (generator.normal(size=shape).astype(np.float32) for shape in (4, (6, 4), 6))
    run = jax.jit(lambda batch: accumulate(lambda *part: mean_loss(weights, *part), batch, jax.random.key(0), parts))
    grads, metrics = run({"x": x, "y": y})
    error = x.astype(np.float64) @ weights - y
    np.testing.assert_allclose(grads["w"], 2 * error @ x / 6, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], (error**2).mean(), rtol=1e-5)


def test_every_part_has_its_own_images_and_randomness():
    seen = []

    def look(part, rng):
        jax.debug.callback(lambda x, r: seen.append((x.tolist(), float(r))), part, jax.random.uniform(rng))
        return jnp.float32(0)

    accumulate(look, jnp.arange(6), jax.random.key(0), 3)
    jax.effects_barrier()
    assert [images for images, _ in seen] == [[0, 3], [1, 4], [2, 5]]
    assert len({random for _, random in seen}) == 3
