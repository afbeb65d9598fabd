"""DISTS: similarity of structure and texture in VGG16's features."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from safetensors.numpy import load_file

from tvt_jax.models.perceptual import VGG16, Params, load_lpips, normalise_input

_EPSILON = 1e-6


def l2_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Halve the size, rounded up, by the root of the Hann-weighted mean square, which does not alias as maxima do."""
    square = jnp.pad(x**2, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for axis in (1, 2):
        length = (square.shape[axis] - 3) // 2 + 1
        taps = [jax.lax.slice_in_dim(square, i, i + 2 * length - 1, 2, axis) for i in range(3)]
        square = 0.25 * taps[0] + 0.5 * taps[1] + 0.25 * taps[2]
    return jnp.sqrt(square + 1e-12)


class DISTS(nn.Module):
    """Distance of two images' structure and texture. Source: Ding et al., arXiv:2004.07728.

    The parameters come from `load_dists`.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]) -> Float[Array, " b"]:
        """Return the distance of each pair of images in [-1, 1], at least 16x16 pixels; 0 for equal images."""
        backbone = VGG16(pool=l2_pool, name="net")
        # The image itself is the first of the six levels, in [0, 1].
        levels_x = [(x + 1) / 2, *backbone(normalise_input(x))]
        levels_y = [(y + 1) / 2, *backbone(normalise_input(y))]
        channels = sum(level.shape[-1] for level in levels_x)
        texture = self.param("alpha", nn.initializers.constant(0.1), (channels,))
        structure = self.param("beta", nn.initializers.constant(0.1), (channels,))
        similarities = [_similarities(of_x, of_y) for of_x, of_y in zip(levels_x, levels_y, strict=True)]
        means, covariances = (jnp.concatenate(parts, axis=-1) for parts in zip(*similarities, strict=True))
        return 1 - (means @ texture + covariances @ structure) / (texture.sum() + structure.sum())


def _similarities(x: Array, y: Array) -> tuple[Array, Array]:
    """Compare each channel's mean (texture) and covariance (structure), both Float[b c]."""
    mean_x, mean_y = x.mean((1, 2), keepdims=True), y.mean((1, 2), keepdims=True)
    # Centred first: the difference of two large means would lose digits in float32.
    variances = ((x - mean_x) ** 2).mean((1, 2)) + ((y - mean_y) ** 2).mean((1, 2))
    covariance = ((x - mean_x) * (y - mean_y)).mean((1, 2))
    texture = (2 * mean_x * mean_y + _EPSILON) / (mean_x**2 + mean_y**2 + _EPSILON)
    return texture[:, 0, 0], (2 * covariance + _EPSILON) / (variances + _EPSILON)


def load_dists() -> Params:
    """Read the parameters of `DISTS`: VGG16's as in `load_lpips`, the channel weights from beside this file."""
    return {"net": load_lpips("vgg")["net"], **load_file(Path(__file__).with_name("dists.safetensors"))}
