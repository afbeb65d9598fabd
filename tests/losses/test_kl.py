import jax
import numpy as np
import torch

from tvt_jax.losses.kl import kl_divergence
from tvt_jax.models.vae import Posterior


def test_divergence_against_torch():
    generator = np.random.default_rng(0)
    mean, log_variance = generator.normal(0, 1.5, (2, 3, 4, 5, 4)).astype(np.float32)
    posterior = torch.distributions.Normal(*torch.tensor(np.stack([mean, np.exp(0.5 * log_variance)]).astype(float)))
    per_latent = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum((1, 2, 3))
    # Float32 sums of 80 numbers.
    np.testing.assert_allclose(jax.jit(kl_divergence)(Posterior(mean, log_variance)), per_latent.mean(), rtol=1e-5)


def test_the_standard_normal_has_none():
    zeros = np.zeros((1, 2, 2, 4), np.float32)
    assert kl_divergence(Posterior(zeros, zeros)) == 0
