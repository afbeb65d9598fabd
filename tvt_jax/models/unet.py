"""UNet2DConditionModel: SD 2.1's four levels, TVT's five, and small ones, by configuration."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from tvt_jax.models.attention import Transformer2DModel
from tvt_jax.models.config_json import require, require_fixed
from tvt_jax.models.layers import Conv, Dense, GroupNorm
from tvt_jax.models.remat import Remat, rematerialised
from tvt_jax.models.resnet import UNET_DOWNSAMPLE, Downsample2D, ResnetBlock2D, Upsample2D

CROSS_ATTENTION_BLOCK = "CrossAttnDownBlock2D"
PLAIN_BLOCK = "DownBlock2D"
_UP_BLOCKS = {CROSS_ATTENTION_BLOCK: "CrossAttnUpBlock2D", PLAIN_BLOCK: "UpBlock2D"}

# Options of diffusers that SD 2.1 does not use. upcast_attention is not among them: scores are always float32 here.
_FIXED = {
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "dropout": 0.0,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "downsample_padding": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "mid_block_scale_factor": 1,
    "mid_block_only_cross_attention": None,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "use_linear_projection": True,
    "transformer_layers_per_block": 1,
    "reverse_transformer_layers_per_block": None,
    "num_attention_heads": None,
    "attention_type": "default",
    "cross_attention_norm": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "num_class_embeds": None,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "addition_embed_type": None,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
}


@dataclass(frozen=True, kw_only=True)
class UNet2DConditionConfig:
    """Shape of a UNet2DConditionModel; the defaults are SD 2.1's.

    Attributes:
        block_out_channels: channels of each level, full latent resolution first.
        down_block_types: diffusers' name a level; the way up mirrors it.
        layers_per_block: resnets a level on the way down; one more on the way up.
        attention_heads: heads a level (diffusers calls this field attention_head_dim).
        cross_attention_dim: width of the text embedding.
        latent_channels: channels in and out.
        norm_num_groups: groups of every group norm.
        attention_windows: side of the windows self-attention is kept within, a level; None is the whole image.
    """

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*(CROSS_ATTENTION_BLOCK,) * 3, PLAIN_BLOCK)
    layers_per_block: int = 2
    attention_heads: tuple[int, ...] = (5, 10, 20, 20)
    cross_attention_dim: int = 1024
    latent_channels: int = 4
    norm_num_groups: int = 32
    attention_windows: tuple[int | None, ...] | None = None

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        if not levels == len(self.down_block_types) == len(self.attention_heads) == len(self.windows):
            raise ValueError(
                f"block_out_channels {self.block_out_channels}, down_block_types {self.down_block_types}, "
                f"attention_heads {self.attention_heads} and attention_windows {self.windows} differ in length"
            )
        if unknown := set(self.down_block_types) - set(_UP_BLOCKS):
            raise ValueError(f"unknown down_block_types {sorted(unknown)}; known are {sorted(_UP_BLOCKS)}")
        if bad := [c for c in self.block_out_channels if c % self.norm_num_groups]:
            raise ValueError(f"block_out_channels {bad} are not multiples of norm_num_groups={self.norm_num_groups}")
        types = (*self.down_block_types[:-1], CROSS_ATTENTION_BLOCK)  # the middle block attends at the last level
        pairs = zip(types, self.block_out_channels, self.attention_heads, strict=True)
        if uneven := [(channels, heads) for name, channels, heads in pairs if name != PLAIN_BLOCK and channels % heads]:
            raise ValueError(f"block_out_channels cannot be split into attention_heads: {uneven}")

    @property
    def windows(self) -> tuple[int | None, ...]:
        """`attention_windows` with the default filled in."""
        return self.attention_windows or (None,) * len(self.block_out_channels)

    def to_json(self) -> dict[str, Any]:
        """Write diffusers' config.json, with `attention_windows` as an extra field where it is set."""
        data: dict[str, Any] = {
            "_class_name": "UNet2DConditionModel",
            "sample_size": 64,
            "in_channels": self.latent_channels,
            "out_channels": self.latent_channels,
            "center_input_sample": False,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
            "down_block_types": list(self.down_block_types),
            "up_block_types": [_UP_BLOCKS[name] for name in reversed(self.down_block_types)],
            "block_out_channels": list(self.block_out_channels),
            "layers_per_block": self.layers_per_block,
            "act_fn": "silu",
            "norm_num_groups": self.norm_num_groups,
            "norm_eps": 1e-5,
            "cross_attention_dim": self.cross_attention_dim,
            "attention_head_dim": list(self.attention_heads),
            "use_linear_projection": True,
        }
        if self.attention_windows:
            data["attention_windows"] = list(self.attention_windows)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "UNet2DConditionConfig":
        """Read diffusers' config.json, or the `config` of a network of diffusers.

        Raises:
            ValueError: a field asks for something that SD 2.1's UNet has not.
        """
        data = {"use_linear_projection": False, "attention_head_dim": 8, **data}  # diffusers' defaults, not SD 2.1's
        lists = ("block_out_channels", "down_block_types")
        numbers = ("in_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim")
        require("UNet2DConditionModel", data, lists=lists, numbers=numbers)
        if isinstance(heads := data["attention_head_dim"], int):
            data["attention_head_dim"] = [heads] * len(data["block_out_channels"])
        require("UNet2DConditionModel", data, lists=("attention_head_dim",), numbers=())
        down = [name for name in data["down_block_types"] if name in _UP_BLOCKS]
        up = [_UP_BLOCKS[name] for name in reversed(down)]
        blocks = {"down_block_types": down, "up_block_types": up, "out_channels": data["in_channels"]}
        require_fixed("UNet2DConditionModel", data, {**_FIXED, **blocks})
        windows = data.get("attention_windows")
        return cls(
            block_out_channels=tuple(data["block_out_channels"]),
            down_block_types=tuple(down),
            layers_per_block=data["layers_per_block"],
            attention_heads=tuple(data["attention_head_dim"]),
            cross_attention_dim=data["cross_attention_dim"],
            latent_channels=data["in_channels"],
            norm_num_groups=data["norm_num_groups"],
            attention_windows=tuple(windows) if windows else None,
        )


def timestep_embedding(timesteps: Int[Array, " b"], features: int) -> Float[Array, "b d"]:
    """Sinusoids of the time step, cosines first (flip_sin_to_cos), frequencies 10000^(-i / half)."""
    half = features // 2
    frequencies = jnp.exp(-math.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimestepEmbedding(nn.Module):
    """Two dense layers on the sinusoids."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b d"]:
        """Widen to `features`."""
        x = Dense(self.features, dtype=self.dtype, name="linear_1")(x)
        return Dense(self.features, dtype=self.dtype, name="linear_2")(jax.nn.silu(x))


class UNetLevel(nn.Module):
    """What the blocks of one level have in common.

    Attributes:
        config: the UNet's shape.
        level: index into `config.block_out_channels`.
        remat: see `UNet2DConditionModel`.
    """

    config: UNet2DConditionConfig
    level: int
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    def resnet(self, index: int) -> ResnetBlock2D:
        """Make the level's resnet `index`."""
        features = self.config.block_out_channels[self.level]
        block = rematerialised(ResnetBlock2D, self.remat)
        return block(features, self.config.norm_num_groups, 1e-5, self.dtype, name=f"resnets_{index}")

    def attention(self, index: int) -> Transformer2DModel:
        """Make the level's transformer `index`."""
        return rematerialised(Transformer2DModel, self.remat)(
            heads=self.config.attention_heads[self.level],
            window=self.config.windows[self.level],
            norm_num_groups=self.config.norm_num_groups,
            dtype=self.dtype,
            name=f"attentions_{index}",
        )

    @property
    def has_attention(self) -> bool:
        """Whether each resnet is followed by a transformer."""
        return self.config.down_block_types[self.level] == CROSS_ATTENTION_BLOCK


class DownBlock(UNetLevel):
    """CrossAttnDownBlock2D or DownBlock2D."""

    @nn.compact
    def __call__(self, x: Array, time_embedding: Array, text_embedding: Array) -> list[Array]:
        """Give every intermediate result; the last is the block's output."""
        outputs = []
        for i in range(self.config.layers_per_block):
            x = self.resnet(i)(x, time_embedding)
            if self.has_attention:
                x = self.attention(i)(x, text_embedding)
            outputs.append(x)
        if self.level < len(self.config.block_out_channels) - 1:
            outputs.append(Downsample2D(UNET_DOWNSAMPLE, self.dtype, name="downsamplers_0")(x))
        return outputs


class MidBlock(UNetLevel):
    """UNetMidBlock2DCrossAttn."""

    @nn.compact
    def __call__(self, x: Array, time_embedding: Array, text_embedding: Array) -> Array:
        """Resnet, transformer, resnet."""
        x = self.resnet(0)(x, time_embedding)
        x = self.attention(0)(x, text_embedding)
        return self.resnet(1)(x, time_embedding)


class UpBlock(UNetLevel):
    """CrossAttnUpBlock2D or UpBlock2D."""

    @nn.compact
    def __call__(self, x: Array, skips: list[Array], time_embedding: Array, text_embedding: Array) -> Array:
        """Consume layers_per_block + 1 of `skips` from the end, then enlarge to the size of the one before them."""
        for i in range(self.config.layers_per_block + 1):
            x = self.resnet(i)(jnp.concatenate([x, skips.pop()], axis=-1), time_embedding)
            if self.has_attention:
                x = self.attention(i)(x, text_embedding)
        if self.level > 0:
            x = Upsample2D(self.dtype, name="upsamplers_0")(x, skips[-1].shape[1:3])
        return x


class UNet2DConditionModel(nn.Module):
    """Noise prediction conditioned on a time step and a text, with diffusers' parameter names.

    Attributes:
        config: its shape.
        dtype: dtype of the computation; norms and softmax are float32.
        remat: what resnets and transformers keep for the backward pass.
    """

    config: UNet2DConditionConfig
    dtype: DTypeLike = jnp.float32
    remat: Remat = "none"

    @nn.compact
    def __call__(
        self,
        sample: Float[Array, "b h w c"],
        timesteps: Int[Array, " b"],
        text_embedding: Float[Array, "b n d"],
    ) -> Float[Array, "b h w c"]:
        """Predict the noise in scaled latents of any height and width; `timesteps` in [0, 1000)."""
        config, levels = self.config, len(self.config.block_out_channels)
        width = config.block_out_channels[0]
        time_embedding = TimestepEmbedding(4 * width, self.dtype, name="time_embedding")(
            timestep_embedding(timesteps, width)
        )
        conditions = (time_embedding, text_embedding)
        x = Conv(width, dtype=self.dtype, name="conv_in")(sample)
        skips = [x]
        for level in range(levels):
            block = DownBlock(config, level, self.dtype, self.remat, name=f"down_blocks_{level}")
            skips += block(skips[-1], *conditions)
        x = MidBlock(config, levels - 1, self.dtype, self.remat, name="mid_block")(skips[-1], *conditions)
        for i, level in enumerate(reversed(range(levels))):
            x = UpBlock(config, level, self.dtype, self.remat, name=f"up_blocks_{i}")(x, skips, *conditions)
        x = GroupNorm(config.norm_num_groups, 1e-5, self.dtype, name="conv_norm_out")(x)
        return Conv(config.latent_channels, dtype=self.dtype, name="conv_out")(jax.nn.silu(x)).astype(jnp.float32)
