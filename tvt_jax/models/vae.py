"""AutoencoderKL: SD's 8x VAE (with a middle block) and TVT's 4x VAE (without), by configuration."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from tvt_jax.models.attention import SpatialAttention
from tvt_jax.models.config_json import require, require_fixed
from tvt_jax.models.convolution import NO_PADDING
from tvt_jax.models.layers import Conv, GroupNorm
from tvt_jax.models.remat import Remat, rematerialised
from tvt_jax.models.resnet import VAE_DOWNSAMPLE, Downsample2D, ResnetBlock2D, Upsample2D

_BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
# Options of diffusers that SD's VAE does not use.
_FIXED = {
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
}


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig:
    """Shape of an AutoencoderKL.

    Attributes:
        block_out_channels: channels of each level, full resolution first; each but the last halves the size.
        layers_per_block: resnets a level in the encoder; the decoder has one more.
        latent_channels: channels of the latent.
        norm_num_groups: groups of every group norm.
        scaling_factor: latent times this has about unit variance.
        mid_block: whether encoder and decoder have a middle block (TVT's VAE-D4 has none).
        mid_block_add_attention: whether that block has attention.
    """

    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    mid_block: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        if bad := [c for c in self.block_out_channels if c % self.norm_num_groups]:
            raise ValueError(f"block_out_channels {bad} are not multiples of norm_num_groups={self.norm_num_groups}")

    @property
    def downsampling(self) -> int:
        """Pixels of the image per pixel of the latent, along each side."""
        return 2 ** (len(self.block_out_channels) - 1)

    def to_json(self) -> dict[str, Any]:
        """Write diffusers' config.json; no middle block is one without attention (its weights make it the identity)."""
        levels = len(self.block_out_channels)
        return {
            "_class_name": "AutoencoderKL",
            "in_channels": 3,
            "out_channels": 3,
            **{name: [block] * levels for name, block in _BLOCKS.items()},
            "block_out_channels": list(self.block_out_channels),
            "layers_per_block": self.layers_per_block,
            "act_fn": "silu",
            "latent_channels": self.latent_channels,
            "norm_num_groups": self.norm_num_groups,
            "sample_size": 512,
            "scaling_factor": self.scaling_factor,
            "force_upcast": True,
            "mid_block_add_attention": self.mid_block and self.mid_block_add_attention,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any], *, mid_block: bool = True) -> "AutoencoderKLConfig":
        """Read diffusers' config.json, or the `config` of a network of diffusers.

        Whether the middle block is real only the weights tell, hence `mid_block`.

        Raises:
            ValueError: a field asks for something that SD's VAE has not.
        """
        numbers = ("layers_per_block", "latent_channels", "norm_num_groups")
        require("AutoencoderKL", data, lists=("block_out_channels",), numbers=numbers)
        levels = len(data["block_out_channels"])
        blocks = {name: [block] * levels for name, block in _BLOCKS.items()}
        require_fixed("AutoencoderKL", data, {**_FIXED, **blocks})
        factor = data.get("scaling_factor", 0.18215)
        if type(factor) not in (int, float) or not 0 < factor < math.inf:
            raise ValueError(f"the AutoencoderKL's config.json has scaling_factor {factor!r}, no number above 0")
        return cls(
            block_out_channels=tuple(data["block_out_channels"]),
            layers_per_block=data["layers_per_block"],
            latent_channels=data["latent_channels"],
            norm_num_groups=data["norm_num_groups"],
            scaling_factor=factor,
            mid_block=mid_block,
            mid_block_add_attention=not mid_block or data.get("mid_block_add_attention", True),
        )


class Posterior(NamedTuple):
    """Diagonal Gaussian over latents, not scaled by `scaling_factor`."""

    mean: Float[Array, "b h w c"]
    log_variance: Float[Array, "b h w c"]

    def sample(self, rng: PRNGKeyArray) -> Float[Array, "b h w c"]:
        """Draw one latent."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * jax.random.normal(rng, self.mean.shape)


class MidBlock(nn.Module):
    """Resnet, attention, resnet at the lowest resolution."""

    config: AutoencoderKLConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Run all three; the shape stays."""
        groups = self.config.norm_num_groups
        resnet = rematerialised(ResnetBlock2D, self.remat)
        x = resnet(x.shape[-1], groups, dtype=self.dtype, name="resnets_0")(x)
        if self.config.mid_block_add_attention:
            x = rematerialised(SpatialAttention, self.remat)(groups, self.dtype, name="attentions_0")(x)
        return resnet(x.shape[-1], groups, dtype=self.dtype, name="resnets_1")(x)


class EncoderBlock(nn.Module):
    """Resnets of one level, then a downsampler unless it is the last level."""

    features: int
    config: AutoencoderKLConfig
    last: bool
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Change the channels, then halve the size, but for the last level."""
        resnet = rematerialised(ResnetBlock2D, self.remat)
        for i in range(self.config.layers_per_block):
            x = resnet(self.features, self.config.norm_num_groups, dtype=self.dtype, name=f"resnets_{i}")(x)
        return x if self.last else Downsample2D(VAE_DOWNSAMPLE, self.dtype, name="downsamplers_0")(x)


class DecoderBlock(nn.Module):
    """Resnets of one level, then an upsampler unless it is the last level."""

    features: int
    config: AutoencoderKLConfig
    last: bool
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Change the channels, then double the size, but for the last level."""
        resnet = rematerialised(ResnetBlock2D, self.remat)
        for i in range(self.config.layers_per_block + 1):
            x = resnet(self.features, self.config.norm_num_groups, dtype=self.dtype, name=f"resnets_{i}")(x)
        return x if self.last else Upsample2D(self.dtype, name="upsamplers_0")(x)


class Encoder(nn.Module):
    """Image to twice the latent's channels (mean and log-variance, before quant_conv)."""

    config: AutoencoderKLConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h2 w2 c"]:
        """Encode an image in [-1, 1]."""
        channels = self.config.block_out_channels
        x = Conv(channels[0], dtype=self.dtype, name="conv_in")(x)
        for i, features in enumerate(channels):
            last = i == len(channels) - 1
            x = EncoderBlock(features, self.config, last, self.dtype, self.remat, name=f"down_blocks_{i}")(x)
        if self.config.mid_block:
            x = MidBlock(self.config, self.dtype, self.remat, name="mid_block")(x)
        x = GroupNorm(self.config.norm_num_groups, name="conv_norm_out")(x)
        return Conv(2 * self.config.latent_channels, name="conv_out")(jax.nn.silu(x))


class Decoder(nn.Module):
    """Latent (after post_quant_conv) to image."""

    config: AutoencoderKLConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(self, z: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 3"]:
        """Decode to an image, not clipped to [-1, 1]."""
        channels = self.config.block_out_channels[::-1]
        x = Conv(channels[0], dtype=self.dtype, name="conv_in")(z)
        if self.config.mid_block:
            x = MidBlock(self.config, self.dtype, self.remat, name="mid_block")(x)
        for i, features in enumerate(channels):
            last = i == len(channels) - 1
            x = DecoderBlock(features, self.config, last, self.dtype, self.remat, name=f"up_blocks_{i}")(x)
        x = GroupNorm(self.config.norm_num_groups, name="conv_norm_out")(x)
        return Conv(3, name="conv_out")(jax.nn.silu(x))


class AutoencoderKL(nn.Module):
    """Variational autoencoder of latent diffusion (arXiv 2112.10752), with diffusers' parameter names.

    Attributes:
        config: its shape.
        dtype: dtype of the computation; norms, softmax, the last convolutions and the posterior are float32.
        remat: what resnets and the attention keep for the backward pass.
    """

    config: AutoencoderKLConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    def setup(self) -> None:
        """Make encoder, decoder, and the 1x1 convolutions between them and the latent."""
        channels = self.config.latent_channels
        self.encoder = Encoder(self.config, self.dtype, self.remat)
        self.quant_conv = Conv(2 * channels, 1, padding=NO_PADDING)
        self.decoder = Decoder(self.config, self.dtype, self.remat)
        self.post_quant_conv = Conv(channels, 1, padding=NO_PADDING)

    def encode(self, x: Float[Array, "b h w 3"]) -> Posterior:
        """Encode images in [-1, 1] whose sides are multiples of `config.downsampling`; log-variance in [-30, 20]."""
        mean, log_variance = jnp.split(self.quant_conv(self.encoder(x)).astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, -30.0, 20.0))

    def decode(self, z: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 3"]:
        """Decode latents (not scaled) to images about [-1, 1], not clipped."""
        return self.decoder(self.post_quant_conv(z)).astype(jnp.float32)

    def to_latent(self, x: Float[Array, "b h w 3"], rng: PRNGKeyArray | None = None) -> Float[Array, "b h2 w2 c"]:
        """Encode images to the scaled latents that the UNet knows: the posterior's mean, or with `rng` a sample."""
        posterior = self.encode(x)
        return (posterior.mean if rng is None else posterior.sample(rng)) * self.config.scaling_factor

    def to_image(self, z: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 3"]:
        """Decode scaled latents to images about [-1, 1], not clipped."""
        return self.decode(z / self.config.scaling_factor)

    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """Reconstruct images from the posterior's mean."""
        return self.decode(self.encode(x).mean)
