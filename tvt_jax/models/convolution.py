"""Convolutions and their gradients, each by the fewest products that the platform is fast at."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from tvt_jax.models import winograd
from tvt_jax.models.platform import on_one_cpu

Padding = tuple[tuple[int, int], tuple[int, int]]

SAME_3X3: Padding = ((1, 1), (1, 1))
NO_PADDING: Padding = ((0, 0), (0, 0))
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    """Cross-correlate NHWC `x` with an HWIO `kernel`."""
    if (stride, padding) == (1, SAME_3X3) and on_one_cpu() and winograd.pays(x, kernel, winograd.PLAIN):
        return _by_winograd(x, kernel)
    return _direct(x, kernel, stride, padding)


def _direct(x: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_DIMENSIONS)


@jax.custom_vjp
def _by_winograd(x: Array, kernel: Array) -> Array:
    return winograd.convolve(x, kernel, winograd.PLAIN)


def _by_winograd_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _by_winograd(x, kernel), (x, kernel)


def _by_winograd_backward(kept: tuple[Array, Array], gradient: ArrayLike) -> tuple[Array, Array]:
    return jax.vjp(partial(_direct, stride=1, padding=SAME_3X3), *kept)[1](gradient)


_by_winograd.defvjp(_by_winograd_forward, _by_winograd_backward)


@jax.custom_vjp
def convolve_doubled(x: Array, kernel: Array) -> Array:
    """Enlarge NHWC `x` twofold by nearest neighbour, then cross-correlate with a 3x3 `kernel`, the border padded.

    A pixel of the result sees 2x2 of `x`. Four convolutions of `x`, for the even and odd rows and columns of a result,
    multiply 16 times where the two steps in turn multiply 36 times; the gradient by `x` is one convolution of stride 2.
    """
    if on_one_cpu() and winograd.pays(x, kernel, winograd.DOUBLED):
        return winograd.convolve(x, kernel, winograd.DOUBLED)
    return _convolve_quarters(x, _kernel_4x4(kernel))


def _convolve_quarters(x: Array, kernel_4x4: Array) -> Array:
    """Give what `kernel_4x4` gives on the pixels of `x` set two apart in zeros, without products with zeros."""
    even, odd = (
        jnp.stack([_direct(x, kernel_4x4[i::2, j::2], 1, ((1 - i, i), (1 - j, j))) for j in (0, 1)], axis=3)
        for i in (0, 1)
    )
    return jnp.stack([even, odd], axis=2).reshape(x.shape[0], 2 * x.shape[1], 2 * x.shape[2], -1)


def _kernel_4x4(kernel: Array) -> Array:
    shifted = (
        jnp.pad(kernel.astype(jnp.float32), ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1)
    )
    return sum(shifted, jnp.float32(0)).astype(kernel.dtype)


def _convolve_doubled_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolve_doubled(x, kernel), (x, kernel)


def _convolve_doubled_backward(kept: tuple[Array, Array], gradient: ArrayLike) -> tuple[Array, Array]:
    x, kernel = kept
    spread = partial(
        jax.lax.conv_general_dilated,
        rhs=_kernel_4x4(kernel),
        window_strides=(1, 1),
        padding=((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=_DIMENSIONS,
    )
    by_kernel = jax.vjp(lambda kernel: _convolve_quarters(x, _kernel_4x4(kernel)), kernel)[1]
    return *jax.vjp(spread, x)[1](gradient), *by_kernel(gradient)


convolve_doubled.defvjp(_convolve_doubled_forward, _convolve_doubled_backward)
