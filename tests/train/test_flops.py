from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tvt_jax.models import attend
from tvt_jax.train.flops import Flops, count_flops

X, Y = jnp.zeros((5, 7)), jnp.zeros((7, 3))
PRODUCT = 2 * 5 * 7 * 3


def count(function, *arguments):
    return count_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def looped(x):
    return lax.scan(lambda carry, _: (carry @ jnp.ones((7, 7)), None), x, length=11)[0]


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (jnp.matmul, (X, Y), PRODUCT),
        (partial(jnp.einsum, "bij,bjk->bik"), (jnp.zeros((4, 5, 7)), jnp.zeros((4, 7, 3))), 4 * PRODUCT),
        (looped, (X,), 11 * 2 * 5 * 7 * 7),
        (lambda x: lax.cond(x[0, 0] > 0, lambda: (x @ Y).sum(), lambda: 0.0), (X,), PRODUCT),
        (jax.jit(jax.jit(jnp.matmul)), (X, Y), PRODUCT),
        (lambda x, y: jnp.exp(x) + 1, (X, Y), 0),
    ],
    ids=["product", "batch", "loop", "branch", "nested", "elementwise"],
)
def test_products(function, arguments, expected):
    assert count(function, *arguments) == Flops(expected, 0)


def test_a_backward_pass_costs_twice_and_what_is_computed_again_once_more():
    def loss(x, y):
        return jnp.sin(x @ y).sum()

    assert count(jax.grad(loss, argnums=(0, 1)), X, Y).compiler == 3 * PRODUCT
    assert count(jax.grad(jax.checkpoint(loss), argnums=(0, 1)), X, Y).compiler == 4 * PRODUCT


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_gradients(stride):
    """Each output sums a window of input channels; each gradient has the same products in another order."""
    image, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))

    def convolve(image, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(image, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers)

    forward = 2 * (2 * (8 // stride) ** 2 * 5) * (3 * 3 * 3)
    assert count(convolve, image, kernel).compiler == forward
    gradients = jax.grad(lambda *arguments: convolve(*arguments).sum(), argnums=(0, 1))
    # XLA's program of the gradient by the image also multiplies by the padding around the result's gradient.
    assert count(gradients, image, kernel).compiler == pytest.approx(3 * forward, rel=0.01)


def test_attention_kernels_are_counted_by_their_products(monkeypatch):
    """Two forward; backward three for the queries and four for keys and values, as each computes the scores again."""
    monkeypatch.setattr(attend, "_TILE", 128)
    query, key = jnp.zeros((2, 256, 3, 64)), jnp.zeros((2, 384, 3, 64))
    product = 2 * 2 * 3 * 256 * 384 * 64
    assert count(partial(attend._splash, interpret=True), query, key, key) == Flops(0, 2 * product)

    def loss(*arguments):
        return attend._splash(*arguments, interpret=True).sum()

    assert count(jax.grad(loss, argnums=(0, 1, 2)), query, key, key).kernels == 9 * product
