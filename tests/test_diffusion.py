import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from tvt_jax.diffusion import NoiseSchedule

REFERENCE = DDPMScheduler(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
)
TIMESTEPS = np.array([0, 1, 500, 999], np.int32)


@pytest.fixture
def pair() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal((4, 3, 5, 2), np.float32) for _ in range(2)]


def test_alphas_are_diffusers():
    """diffusers multiplies a thousand factors in float32: its own rounding is a thousand times 6e-8 at most."""
    ours = NoiseSchedule().alphas_cumprod
    np.testing.assert_allclose(ours, REFERENCE.alphas_cumprod.numpy(), rtol=6e-5)
    assert ours[1] == pytest.approx(0.998296, abs=5e-7)


def test_adds_noise_as_diffusers_does(pair: list[np.ndarray]):
    clean, noise = pair
    expected = REFERENCE.add_noise(*map(torch.tensor, (clean, noise, TIMESTEPS)))
    actual = NoiseSchedule().add_noise(jnp.asarray(clean), jnp.asarray(noise), jnp.asarray(TIMESTEPS))
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


def test_one_step_is_diffusers_step(pair: list[np.ndarray]):
    noisy, noise = pair
    REFERENCE.set_timesteps(timesteps=[1])
    expected = REFERENCE.step(torch.tensor(noise), 1, torch.tensor(noisy)).pred_original_sample
    actual = NoiseSchedule().predict_x0(jnp.asarray(noisy), jnp.asarray(noise), jnp.ones(4, int))
    np.testing.assert_allclose(actual, expected.numpy(), atol=2e-6)


def test_prediction_undoes_the_noise(pair: list[np.ndarray]):
    clean, noise = (jnp.asarray(array) for array in pair)
    schedule, timesteps = NoiseSchedule(), jnp.asarray(TIMESTEPS)
    back = schedule.predict_x0(schedule.add_noise(clean, noise, timesteps), noise, timesteps)
    # At the last step the clean part is divided by 0.068: rounding grows fifteenfold.
    np.testing.assert_allclose(back, clean, atol=1e-5)
