"""Convolution, dense and group norm with torch's arithmetic, and the LoRA branch that any of them can carry."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from tvt_jax.models.convolution import NO_PADDING, SAME_3X3, Padding, convolve, convolve_doubled
from tvt_jax.models.platform import on_one_cpu
from tvt_jax.models.remat import product

# torch draws weights and biases, of convolutions and linear layers, from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
torch_kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias_init(fan_in: int) -> nn.initializers.Initializer:
    """Torch's initialiser for the bias of a layer that sums `fan_in` products.

    Without it a group norm would hide how bright an even image is: a feature without bias has only a direction.
    """
    return lambda rng, shape, dtype=jnp.float32: jax.random.uniform(rng, shape, dtype, -1, 1) * fan_in**-0.5


def parameter(module: nn.Module, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]) -> Array:
    """Give a module's parameter, or draw it where there are none yet.

    flax's own `param` traces `init` to compare its shape, for all 1,400 of a large UNet whenever a program is traced.

    Raises:
        ValueError: it has another shape.
    """
    if module.is_initializing() or not module.has_variable("params", name):
        return module.param(name, init, shape)
    value = module.get_variable("params", name)
    if value.shape != shape:
        raise ValueError(f"{'/'.join((*module.path, name))} has shape {value.shape}, not {shape}")
    return jnp.asarray(value)


class Conv(nn.Module):
    """2-D convolution that adds a low-rank branch when the `lora` collection holds one for it.

    Attributes:
        features: output channels.
        kernel_size: side of the square kernel.
        stride: stride in both directions.
        padding: rows above and below, columns left and right; never inferred ('SAME' differs from torch's).
        dtype: dtype of the computation; parameters stay as they are.
        kernel_init: of the kernel.
        doubled: whether the image is first enlarged twofold by nearest neighbour (3x3 kernels of stride 1).
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: Padding = SAME_3X3
    dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = torch_kernel_init
    doubled: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Convolve; LoRA's A is a convolution like this one, its B is 1x1 (PEFT's layout)."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = parameter(self, "kernel", self.kernel_init, shape).astype(self.dtype)
        bias = parameter(self, "bias", torch_bias_init(math.prod(shape[:3])), (self.features,)).astype(self.dtype)
        x = jnp.asarray(x, self.dtype)
        own = convolve_doubled if self.doubled else partial(convolve, stride=self.stride, padding=self.padding)
        y = own(x, kernel)
        if self.has_variable("lora", "lora_A"):
            low_rank = own(x, self._lora("lora_A"))
            y = y + convolve(low_rank, self._lora("lora_B"), 1, NO_PADDING)
        return product(y + bias)

    def _lora(self, name: str) -> Array:
        return self.get_variable("lora", name).astype(self.dtype)


class Dense(nn.Module):
    """Linear layer that adds a low-rank branch when the `lora` collection holds one for it.

    Attributes:
        features: output channels.
        use_bias: whether a bias is added.
        dtype: dtype of the computation; parameters stay as they are.
    """

    features: int
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32

    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n d"]:
        """Multiply by the kernel, over the last axis."""
        return self.parts(x, 1)[0]

    @nn.compact
    def parts(self, x: Float[Array, "*n c"], count: int) -> list[Float[Array, "*n e"]]:
        """Give the result in equal parts, each a product of its own: a compiler joins to it what is done with it.

        On a CPU it is one product, since all parts of all kernels would be copied before the first is used.
        """
        split = partial(jnp.split, indices_or_sections=count, axis=-1)
        if count > 1 and on_one_cpu():
            return split(self.parts(x, 1)[0])
        kernel = parameter(self, "kernel", torch_kernel_init, (x.shape[-1], self.features)).astype(self.dtype)
        x = x.astype(self.dtype)
        parts = [x @ part for part in split(kernel)]
        if self.has_variable("lora", "lora_A"):
            lora_a, lora_b = (self.get_variable("lora", name).astype(self.dtype) for name in ("lora_A", "lora_B"))
            low_rank = x @ lora_a
            parts = [y + low_rank @ part for y, part in zip(parts, split(lora_b), strict=True)]
        if self.use_bias:
            bias = parameter(self, "bias", torch_bias_init(x.shape[-1]), (self.features,)).astype(self.dtype)
            parts = [y + part for y, part in zip(parts, split(bias), strict=True)]
        return [product(y) for y in parts]


class Moments(NamedTuple):
    """Mean and variance of each group of channels."""

    mean: Float[Array | np.ndarray, "*b g"]
    variance: Float[Array | np.ndarray, "*b g"]


class GroupNorm(nn.Module):
    """Group normalisation in float32, with the variance taken about the mean, as torch takes it.

    Of bfloat16 pixels both moments are taken in one pass, which TPUs add to the convolution before it. What float32
    then loses of the variance, about 1e-7 of the squared mean, is less than what the rounding of the pixels has added.

    Attributes:
        num_groups: groups of channels; must divide them.
        epsilon: added to the variance: 1e-6 in the VAE and the transformers, 1e-5 in the UNet's resnets.
        dtype: dtype of the result.
    """

    num_groups: int = 32
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], moments: Moments | None = None) -> Float[Array, "b h w c"]:
        """Normalise over the pixels and the channels of each group, or by `moments`, scale and shift.

        The moments are of g groups: of all images (g), or of each (b 1 1 g).
        """
        channels = x.shape[-1]
        if channels % self.num_groups:
            raise ValueError(f"{channels} channels cannot be split into norm_num_groups={self.num_groups} groups")
        scale = parameter(self, "scale", nn.initializers.ones_init(), (channels,))
        bias = parameter(self, "bias", nn.initializers.zeros_init(), (channels,))
        mean, variance = self._own_moments(x) if moments is None else map(self._by_channel(x), moments)
        x = x.astype(jnp.float32)
        gain = jax.lax.rsqrt(variance + self.epsilon) * scale
        # One multiply and one add a pixel: the full-resolution levels are bound by memory, not arithmetic.
        return (x * gain + (bias - mean * gain)).astype(self.dtype)

    def moments_of(self, x: Float[Array, "b h w c"]) -> Moments:
        """Mean and variance of each image's groups of channels, b 1 1 g."""
        first = slice(None, None, x.shape[-1] // self.num_groups)
        return Moments(*(moment[..., first] for moment in self._own_moments(x)))

    def _own_moments(self, x: Float[Array, "b h w c"]) -> tuple[Array, Array]:
        """Mean and variance of each channel's group."""
        one_pass, x = x.dtype == jnp.bfloat16, x.astype(jnp.float32)
        mean = self._group_mean(x)
        if one_pass:
            return mean, jax.nn.relu(self._group_mean(jnp.square(x)) - jnp.square(mean))
        return mean, self._group_mean(jnp.square(x - mean))

    def _by_channel(self, x: Array) -> Callable[[Array | np.ndarray], Array]:
        """Give what gives each channel its group's value."""
        return lambda moment: jnp.repeat(moment, x.shape[-1] // self.num_groups, axis=-1)

    def _group_mean(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 1 1 c"]:
        """Mean of each channel's group: over the pixels first, which leaves the channels one long vector."""
        by_channel = x.mean((1, 2), keepdims=True)
        grouped = by_channel.reshape(*by_channel.shape[:3], self.num_groups, -1)
        return jnp.broadcast_to(grouped.mean(-1, keepdims=True), grouped.shape).reshape(by_channel.shape)


def norms_by(moments: Callable[[GroupNorm, Array], Moments]) -> AbstractContextManager[None]:
    """Let all group norms that are applied meanwhile go by the moments that are given for each and its input."""

    def intercept(proceed: Callable, inputs: tuple, options: dict, context: nn.module.InterceptorContext) -> Any:
        if not isinstance(context.module, GroupNorm) or context.method_name != "__call__":
            return proceed(*inputs, **options)
        (x,) = inputs
        return proceed(x, moments(context.module, x))

    return nn.intercept_methods(intercept)


def nearest_resize(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    """Nearest-neighbour resize to `size` (height, width) with torch's rule: source index floor(i * in / out)."""
    batch, height, width, channels = x.shape
    rows, columns = size
    if rows % height or columns % width:
        return x[:, jnp.arange(rows) * height // rows][:, :, jnp.arange(columns) * width // columns]
    # Both directions at once: TPUs take a fifth less for this, the convolution after it and their gradients.
    repeated = (batch, height, rows // height, width, columns // width, channels)
    return jnp.broadcast_to(x[:, :, None, :, None], repeated).reshape(batch, rows, columns, channels)
