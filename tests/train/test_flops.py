from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from proofs.needed_flops import count_needed_flops
from tvt_jax.models import attend, remat
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.train.flops import Flops, count_flops

X, Y = jnp.zeros((5, 7)), jnp.zeros((7, 3))
PRODUCT = 2 * 5 * 7 * 3
POLICIES = remat._POLICIES


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

    assert count(jax.value_and_grad(loss, argnums=(0, 1)), X, Y).compiler == 3 * PRODUCT
    assert count(jax.value_and_grad(jax.checkpoint(loss), argnums=(0, 1)), X, Y).compiler == 4 * PRODUCT


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_gradients(stride):
    """Each output sums a window of input channels; each gradient has the same products in another order."""
    image, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))

    def convolve(image, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(image, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers)

    forward = 2 * (2 * (8 // stride) ** 2 * 5) * (3 * 3 * 3)
    assert count(convolve, image, kernel).compiler == forward
    gradients = jax.value_and_grad(lambda *arguments: convolve(*arguments).sum(), argnums=(0, 1))
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
    assert needed(loss, (query,), (key, key)).kernels == 6 * product


def test_products_keeps_what_the_backward_pass_of_attention_kernels_needs(monkeypatch):
    monkeypatch.setattr(attend, "_TILE", 128)
    query = jnp.zeros((1, 128, 2, 64))
    product = 2 * 2 * 128 * 128 * 64

    def loss(query, keeps):
        block = jax.checkpoint(lambda x: remat.product(attend._splash(x, x, x, interpret=True)), policy=keeps)
        return jnp.sin(block(query)).sum()

    kernels = {name: count(jax.grad(partial(loss, keeps=keeps)), query).kernels for name, keeps in POLICIES.items()}
    assert kernels == {"products": 9 * product, "blocks": 11 * product}


def needed(loss, trained, others=()):
    return count_needed_flops(
        jax.make_jaxpr(loss)(*trained, *others).jaxpr, [True] * len(trained) + [False] * len(others)
    )


@pytest.mark.parametrize(
    ("loss", "trained", "others", "products"),
    [
        (lambda x, y: jnp.sin(x @ y).sum(), (), (X, Y), 1),
        (lambda x, y: jnp.sin(x @ y).sum(), (X,), (Y,), 2),
        (lambda x, y: jnp.sin(x @ y).sum(), (X, Y), (), 3),
        (lambda y, x: jnp.sin(x @ lax.stop_gradient(y)).sum() + y.sum(), (Y,), (X,), 1),
        (lambda y, x: jax.checkpoint(lambda z: jnp.sin(x @ z))(y).sum(), (Y,), (X,), 2),
        (lambda y, x: lax.cond(x[0, 0] > 0, lambda: (x @ y).sum(), lambda: 0.0), (Y,), (X,), 2),
        # The carry comes to depend on y in the first of five rounds, so that gradients flow to both.
        (lambda y, x: lax.scan(lambda z, _: (z @ (y @ y.T), None), x, length=5)[0].sum(), (Y,), (X,), None),
    ],
    ids=["nothing", "one", "both", "stopped", "checkpoint", "branch", "loop"],
)
def test_needed_is_a_product_for_each_gradient(loss, trained, others, products):
    loop = 5 * 3 * (2 * 7 * 7 * 3 + 2 * 5 * 7 * 7)
    assert needed(loss, trained, others) == Flops(products * PRODUCT if products else loop, 0)


@pytest.mark.parametrize("by", [0, 1], ids=["parameters", "latent"])
def test_needed_is_what_reverse_mode_takes_for_a_unet(by):
    """But for the padding around strided convolutions, see above."""
    config = UNet2DConditionConfig(
        block_out_channels=(8, 16),
        down_block_types=(PLAIN_BLOCK, CROSS_ATTENTION_BLOCK),
        layers_per_block=1,
        attention_heads=(1, 2),
        cross_attention_dim=8,
        norm_num_groups=4,
    )
    unet = UNet2DConditionModel(config)
    latent, inputs = jnp.zeros((1, 16, 16, 4)), (jnp.zeros(1, int), jnp.zeros((1, 3, 8)))
    params = jax.eval_shape(unet.init, jax.random.key(0), latent, *inputs)

    def loss(wanted, other):
        params, latent = (wanted, other) if by == 0 else (other, wanted)
        return jnp.square(unet.apply(params, latent, *inputs)).sum()

    arguments = (params, latent) if by == 0 else (latent, params)
    jaxpr, trained = jax.make_jaxpr(loss)(*arguments).jaxpr, len(jax.tree.leaves(arguments[0]))
    ours = count_needed_flops(jaxpr, [i < trained for i in range(len(jaxpr.invars))]).compiler
    # Flash attention makes the scores of 8x8 tokens, by themselves and by three of text, again; four transformers.
    again = 4 * 2 * (64 * 64 + 64 * 3) * 16
    assert ours == pytest.approx(count(jax.value_and_grad(loss), *arguments).compiler - again, rel=0.01)
