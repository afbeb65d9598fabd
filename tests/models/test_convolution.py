from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.models.torch_reference import arrays, assert_close, to_numpy, to_torch
from tvt_jax.models import winograd
from tvt_jax.models.convolution import SAME_3X3, convolve, convolve_doubled
from tvt_jax.models.platform import ANY, traced_for

PLAIN = partial(convolve, stride=1, padding=SAME_3X3)
SMALL = (2, 5, 4, 3), (3, 3, 3, 2)
# As few channels and pixels as take fewer products: in strips, the last of which ends below the picture.
LARGE = (1, 34, 32, 128), (3, 3, 128, 130)
# A product's error is some 6e-8 of the result; sums and differences of four results, and of pixels, add to it.
TOLERANCE = 2e-6


@pytest.mark.parametrize("shapes", [SMALL, LARGE])
@pytest.mark.parametrize(("ours", "scale"), [(PLAIN, 1), (convolve_doubled, 2)])
def test_values_and_gradients_are_torchs(ours, scale, shapes, monkeypatch):
    """Torch enlarges first; odd sizes, and channels that change."""
    monkeypatch.setattr(winograd, "_TILES", 100)
    batch, height, width, _ = shapes[0]
    x, kernel, direction = arrays(*shapes, (batch, scale * height, scale * width, shapes[1][-1]))
    value, pullback = jax.jit(partial(jax.vjp, ours))(jnp.asarray(x), jnp.asarray(kernel))
    torch_x = to_torch(x).requires_grad_()
    torch_kernel = torch.tensor(kernel.transpose(3, 2, 0, 1), dtype=torch.float64, requires_grad=True)
    enlarged = functional.interpolate(torch_x, scale_factor=scale) if scale > 1 else torch_x
    expected = functional.conv2d(enlarged, torch_kernel, padding=1)
    expected.backward(to_torch(direction))
    by_x, by_kernel = pullback(direction)
    assert_close(value, to_numpy(expected), TOLERANCE)
    assert_close(by_x, to_numpy(torch_x.grad), TOLERANCE)
    assert_close(by_kernel, torch_kernel.grad.numpy().transpose(2, 3, 1, 0), TOLERANCE)


@pytest.mark.parametrize("ours", [PLAIN, convolve_doubled])
def test_fewer_products_are_for_float32_on_one_cpu(ours):
    """Elsewhere the compiler's own convolution is faster, or rounding would cost more than time."""

    def own(x, kernel):
        traced_anew = jax.make_jaxpr(lambda *inputs: ours(*inputs))
        return "conv_general_dilated" in str(traced_anew(x, kernel))

    x, kernel = (jnp.zeros(shape) for shape in LARGE)
    assert not own(x, kernel)
    assert own(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert own(x[:, :20], kernel) == (ours is PLAIN)
    assert own(x[..., :64], kernel[:, :, :64])
    with traced_for(ANY):
        assert own(x, kernel)
    with jax.set_mesh(jax.make_mesh((2,), ("data",))):
        assert own(x, kernel)


def test_a_batch_is_its_images():
    x, kernel = map(jnp.asarray, arrays((3, *LARGE[0][1:]), LARGE[1]))
    one_by_one = [PLAIN(image[None], kernel)[0] for image in x]
    np.testing.assert_array_equal(PLAIN(x, kernel), np.stack(one_by_one))


@pytest.mark.parametrize("ours", [PLAIN, convolve_doubled])
def test_what_is_made_of_weights_alone_is_not_held(ours):
    """A compiler makes it at the start of a program, for all layers, and has room for all."""

    def temporary(layers):
        def network(x, kernels):
            for kernel in kernels:
                x = ours(x, kernel)[:, :32, :32]
            return x

        kernels = [jax.ShapeDtypeStruct((3, 3, 256, 256), jnp.float32)] * layers
        compiled = jax.jit(network).lower(jax.ShapeDtypeStruct((1, 32, 32, 256), jnp.float32), kernels).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(6) < 1.2 * temporary(2)
