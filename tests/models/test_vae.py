import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL as Reference

from tests.models.torch_reference import (
    arrays,
    assert_agrees,
    assert_close,
    quick_jit,
    random_params,
    randomised,
    state_of,
    to_numpy,
    to_torch,
    without_middle,
)
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig, Posterior

NETWORK = 1e-4
VAE_D8 = AutoencoderKLConfig(block_out_channels=(8, 8, 12, 16), norm_num_groups=4, layers_per_block=1)
WITHOUT_ATTENTION = AutoencoderKLConfig(
    block_out_channels=(8, 12), norm_num_groups=4, layers_per_block=1, mid_block_add_attention=False
)
VAE_D4 = AutoencoderKLConfig(block_out_channels=(8, 12, 12), norm_num_groups=4, layers_per_block=2, mid_block=False)


def reference_of(config: AutoencoderKLConfig) -> Reference:
    reference = randomised(Reference.from_config(config.to_json()))
    return reference if config.mid_block else without_middle(reference)


def parameters(config: AutoencoderKLConfig, tensors: dict[str, np.ndarray]):
    return tree_from_torch({k: v for k, v in tensors.items() if config.mid_block or ".mid_block." not in k})


@pytest.mark.parametrize(
    ("config", "size"),
    [(VAE_D8, (16, 24)), (WITHOUT_ATTENTION, (6, 10)), (VAE_D4, (13, 18))],
    ids=["8x", "middle without attention", "4x, of a size that is cut"],
)
def test_autoencoder(config: AutoencoderKLConfig, size: tuple[int, int]):
    """Encode, sample, decode, so that everything depends on everything."""
    reference, model = reference_of(config), AutoencoderKL(config)

    def ours(params, x, noise):
        posterior = model.apply({"params": params}, x, method="encode")
        z = posterior.mean + jnp.exp(0.5 * posterior.log_variance) * noise
        return model.apply({"params": params}, z, method="decode")

    def theirs(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        posterior = reference.encode(x).latent_dist
        return reference.decode(posterior.mean + posterior.std * noise).sample

    latent = [side // config.downsampling for side in size]
    inputs = arrays((2, *size, 3), (2, *latent, 4))
    assert_agrees(
        ours, reference, *inputs, tolerance=NETWORK, call=theirs, tree=lambda tensors: parameters(config, tensors)
    )


def test_log_variance_is_clipped_as_in_diffusers():
    reference, model = reference_of(VAE_D4), AutoencoderKL(VAE_D4)
    with torch.no_grad():
        reference.quant_conv.bias[4:] = torch.tensor([-1e3, 1e3, 0, 0])
    (x,) = arrays((1, 8, 8, 3))
    params = parameters(VAE_D4, state_of(reference))
    posterior = quick_jit(lambda params, x: model.apply({"params": params}, x, method="encode"))(params, x)
    expected = reference.encode(to_torch(x)).latent_dist
    assert_close(posterior.log_variance, to_numpy(expected.logvar), NETWORK)
    assert_close(posterior.mean, to_numpy(expected.mean), NETWORK)


def test_posterior_samples_have_its_mean_and_variance():
    posterior = Posterior(jnp.full((1, 2, 2, 4), 3.0), jnp.full((1, 2, 2, 4), -2.0))
    samples = np.asarray(jax.vmap(posterior.sample)(jax.random.split(jax.random.key(1), 4000)))
    # 64,000 draws: the mean is within 5 deviations of e^-1 / 253, the variance within 5 of e^-2 sqrt(2) / 253.
    assert abs(samples.mean() - 3.0) < 5 * np.exp(-1) / 253
    assert abs(samples.var() - np.exp(-2)) < 5 * np.exp(-2) * 2**0.5 / 253


def test_bfloat16_computes_about_the_same_and_answers_in_float32():
    (x,) = arrays((1, 8, 8, 3))
    variables = {"params": random_params(AutoencoderKL(VAE_D4), jnp.asarray(x))}
    exact, rough = (quick_jit(AutoencoderKL(VAE_D4, dtype).apply)(variables, x) for dtype in ("float32", "bfloat16"))
    assert rough.dtype == jnp.float32
    assert_close(rough, np.asarray(exact), 0.1)  # 8 bits of mantissa, 40 layers


@pytest.mark.parametrize("config", [VAE_D8, WITHOUT_ATTENTION, AutoencoderKLConfig()])
def test_reads_what_it_writes_and_what_diffusers_writes(config: AutoencoderKLConfig):
    assert AutoencoderKLConfig.from_json(config.to_json()) == config
    with torch.device("meta"):
        theirs = Reference.from_config(config.to_json()).config
    assert AutoencoderKLConfig.from_json(theirs) == config


def test_only_the_weights_tell_that_there_is_no_middle_block():
    assert AutoencoderKLConfig.from_json(VAE_D4.to_json(), mid_block=False) == VAE_D4
    assert VAE_D4.downsampling == 4


@pytest.mark.parametrize(
    "field",
    [
        {"_class_name": "VQModel"}, {"act_fn": "relu"}, {"use_quant_conv": False}, {"shift_factor": 0.1},
        {"latents_mean": [0.0] * 4}, {"layers_per_block": [1, 2]}, {"block_out_channels": None}, {"in_channels": 1},
        {"block_out_channels": 4}, {"block_out_channels": [0, 64]}, {"block_out_channels": []}, {"norm_num_groups": 0},
        {"layers_per_block": True}, {"scaling_factor": "a"}, {"scaling_factor": None}, {"scaling_factor": 0},
        {"scaling_factor": float("nan")},
        {"down_block_types": ["AttnDownEncoderBlock2D"] * 4}, {"up_block_types": ["UpDecoderBlock2D"] * 3},
    ],
    ids=lambda field: next(iter(field)),
)  # fmt: skip
def test_refuses_what_it_cannot_build(field: dict):
    with pytest.raises(ValueError, match=next(iter(field))):
        AutoencoderKLConfig.from_json({**VAE_D8.to_json(), **field})
