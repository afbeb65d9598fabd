import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from tests.models.torch_reference import arrays, assert_agrees, assert_close, quick_jit, randomised, to_numpy, to_torch
from tvt_jax.models.convolution import Padding
from tvt_jax.models.layers import Conv, Dense, GroupNorm, nearest_resize

BLOCK = 1e-5


@pytest.mark.parametrize(("stride", "padding"), [(1, ((1, 1), (1, 1))), (2, ((1, 1), (1, 1))), (2, ((0, 1), (0, 1)))])
def test_convolution_is_torchs(stride: int, padding: Padding):
    (top, bottom), (left, right) = padding
    reference = randomised(nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), nn.Conv2d(3, 5, 3, stride)))
    ours = Conv(5, stride=stride, padding=padding)
    assert_agrees(
        lambda params, x: ours.apply({"params": params["1"]}, x),
        reference,
        *arrays((2, 7, 8, 3)),
        tolerance=BLOCK,
        tree=lambda tensors: {"1": {"kernel": tensors["1.weight"].transpose(2, 3, 1, 0), "bias": tensors["1.bias"]}},
    )


@pytest.mark.parametrize(("layer", "name"), [(Conv(4), "kernel"), (Dense(4), "bias"), (GroupNorm(2), "scale")])
def test_a_parameter_of_another_shape_is_refused(layer, name):
    x = jnp.ones((1, 4, 4, 8))
    params = layer.init(jax.random.key(0), x)["params"]
    with pytest.raises(ValueError, match=rf"{name} has shape \(9,\), not \("):
        layer.apply({"params": {**params, name: jnp.ones(9)}}, x)


@pytest.mark.parametrize("bias", [True, False])
def test_dense_layer_is_torchs(bias: bool):
    assert_agrees(
        lambda params, x: Dense(5, bias).apply({"params": params["0"]}, x),
        randomised(nn.Sequential(nn.Linear(3, 5, bias))),
        *arrays((2, 7, 3)),
        tolerance=BLOCK,
        tree=lambda tensors: {"0": {_LINEAR[name]: tensor.T for name, tensor in tensors.items()}},
    )


def test_parts_of_a_dense_layer_hold_no_copies_of_their_kernels():
    """A compiler cuts kernels at the start of a program, for all layers, and has room for all."""

    def temporary(layers):
        def network(params, x):
            for each in params:
                hidden, gate = Dense(2 * x.shape[-1]).apply({"params": each}, x, 2, method="parts")
                x = hidden * jax.nn.sigmoid(gate)
            return x

        shapes = {
            "kernel": jax.ShapeDtypeStruct((512, 1024), jnp.float32),
            "bias": jax.ShapeDtypeStruct((1024,), jnp.float32),
        }
        x = jax.ShapeDtypeStruct((64, 512), jnp.float32)
        return jax.jit(network).lower([shapes] * layers, x).compile().memory_analysis().temp_size_in_bytes

    assert temporary(6) < 1.2 * temporary(2)


_LINEAR = {"0.weight": "kernel", "0.bias": "bias"}


def test_group_norm_is_torchs_far_from_zero_too():
    """A mean ten times the deviation: the variance must be taken about the mean."""
    (x,) = arrays((2, 5, 6, 8))
    assert_agrees(
        lambda params, x: GroupNorm(4, 1e-6).apply({"params": params["0"]}, x),
        randomised(nn.Sequential(nn.GroupNorm(4, 8, eps=1e-6))),
        x + 10,
        tolerance=BLOCK,
        tree=lambda tensors: {"0": {"scale": tensors["0.weight"], "bias": tensors["0.bias"]}},
    )


def test_group_norm_names_channels_it_cannot_split():
    with pytest.raises(ValueError, match=r"6 channels .* norm_num_groups=4"):
        GroupNorm(4).init(jax.random.key(0), jnp.ones((1, 2, 2, 6)))


@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_the_moments_of_bfloat16_pixels_are_float32_s(mean: float):
    """Taken in one pass: against float64, on the same rounded pixels, far from zero and about it."""
    x = jnp.asarray(np.random.default_rng(0).normal(mean, 1.0, (2, 32, 32, 8)), jnp.bfloat16)
    result = GroupNorm(4).apply({"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}, x)
    groups = np.asarray(x, np.float64).reshape(2, 32 * 32, 4, 2)
    deviation = groups - groups.mean((1, 3), keepdims=True)
    expected = deviation / np.sqrt(np.square(deviation).mean((1, 3), keepdims=True) + 1e-6)
    # Ten deviations from zero the variance loses a hundredfold of float32's 6e-8, in a sum of 2,048 squares.
    np.testing.assert_allclose(result, expected.reshape(x.shape), atol=2e-5 * (1 + mean))


@pytest.mark.parametrize("side", [1, 5, 16])
def test_nearest_resize_picks_torchs_pixels(side: int):
    """To the sizes that a UNet asks for (2n and 2n - 1), and to some that it does not."""
    (x,) = arrays((1, side, side + 3, 1))
    sizes = [(2 * side, 2 * side + 6), (2 * side - 1, 2 * side + 5), (3 * side + 1, side), (side, 1)]
    resized = quick_jit(lambda x: [nearest_resize(x, size) for size in sizes])(x)
    for actual, size in zip(resized, sizes, strict=True):
        np.testing.assert_array_equal(actual, to_numpy(nn.functional.interpolate(to_torch(x), size=size)))


def test_references_compute_in_float64():
    module = randomised(nn.Conv2d(1, 1, 1))
    assert module(to_torch(arrays((1, 2, 2, 1))[0])).dtype == torch.float64
    with pytest.raises(AssertionError, match=r"off by 1\.0e-01"):
        assert_close(np.full(3, 2.2), np.full(3, 2.0), 1e-5)
