"""CLIPTextModel: the text encoder of SD 2.1 (OpenCLIP's ViT-H) and of SD 1.x (CLIP's ViT-L), by configuration."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from tvt_jax.models.attention import LayerNorm
from tvt_jax.models.config_json import require, require_fixed
from tvt_jax.models.layers import Dense

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=False),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}
# Options of transformers that no Stable Diffusion uses.
_FIXED = {"model_type": "clip_text_model", "layer_norm_eps": 1e-5, "attention_dropout": 0.0}


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
    """Shape of a CLIPTextModel, by transformers' names; the defaults are SD 2.1's.

    Attributes:
        vocab_size: tokens known.
        hidden_size: width of the embedding.
        intermediate_size: width within the feed-forward layers.
        num_hidden_layers: transformer layers; SD 2.1 leaves out the last of ViT-H's 24.
        num_attention_heads: heads a layer.
        max_position_embeddings: longest prompt in tokens, start and end included.
        hidden_act: "gelu", the exact one (SD 2.1), or "quick_gelu", x sigmoid(1.702 x) (SD 1.x).
    """

    vocab_size: int = 49408
    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 23
    num_attention_heads: int = 16
    max_position_embeddings: int = 77
    hidden_act: str = "gelu"

    def __post_init__(self) -> None:
        if self.hidden_act not in _ACTIVATIONS:
            raise ValueError(f"unknown hidden_act {self.hidden_act!r}; known are {sorted(_ACTIVATIONS)}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be split into num_attention_heads={self.num_attention_heads}"
            )

    def to_json(self) -> dict[str, Any]:
        """Write transformers' config.json."""
        return {"architectures": ["CLIPTextModel"], **_FIXED, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "CLIPTextConfig":
        """Read transformers' config.json.

        Raises:
            ValueError: a field is missing, or asks for something that no Stable Diffusion's text encoder has.
        """
        data = {"hidden_act": "quick_gelu", **data}  # transformers' default, not SD 2.1's
        names = [field.name for field in fields(cls)]
        require("CLIPTextModel", data, lists=(), numbers=[name for name in names if name != "hidden_act"])
        require_fixed("CLIPTextModel", data, _FIXED)
        return cls(**{name: data[name] for name in names})


class Embeddings(nn.Module):
    """Sum of a vector for each token and one for its position."""

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        """Look both up."""
        known, longest, width = self.config.vocab_size, self.config.max_position_embeddings, self.config.hidden_size
        if tokens.shape[1] > longest:
            raise ValueError(f"{tokens.shape[1]} tokens are more than max_position_embeddings={longest}")
        positions = nn.Embed(longest, width, dtype=self.dtype, name="position_embedding")(jnp.arange(tokens.shape[1]))
        return nn.Embed(known, width, dtype=self.dtype, name="token_embedding")(tokens) + positions


class SelfAttention(nn.Module):
    """Multi-head attention of every token to itself and to those before it."""

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Attend, softmax in float32."""
        width = x.shape[-1]
        query, key, value = (Dense(width, dtype=self.dtype, name=f"{part}_proj")(x) for part in "qkv")
        split = (part.reshape(*x.shape[:2], self.heads, -1) for part in (query, key, value))
        result = jax.nn.dot_product_attention(*split, is_causal=True).reshape(x.shape)
        return Dense(width, dtype=self.dtype, name="out_proj")(result)


class MLP(nn.Module):
    """The transformer's feed-forward."""

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Widen, bend, narrow."""
        hidden = Dense(self.config.intermediate_size, dtype=self.dtype, name="fc1")(x)
        return Dense(x.shape[-1], dtype=self.dtype, name="fc2")(_ACTIVATIONS[self.config.hidden_act](hidden))


class EncoderLayer(nn.Module):
    """Two residual branches, each behind a layer norm."""

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Attend, then feed forward."""
        normed = LayerNorm(dtype=self.dtype, name="layer_norm1")(x)
        x = x + SelfAttention(self.config.num_attention_heads, self.dtype, name="self_attn")(normed)
        normed = LayerNorm(dtype=self.dtype, name="layer_norm2")(x)
        return x + MLP(self.config, self.dtype, name="mlp")(normed)


class Encoder(nn.Module):
    """The layers, one after the other."""

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Run every layer; the shape stays."""
        for i in range(self.config.num_hidden_layers):
            x = EncoderLayer(self.config, self.dtype, name=f"layers_{i}")(x)
        return x


class TextTransformer(nn.Module):
    """All there is to the text encoder; the checkpoints hold it under the name `text_model`."""

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        """Embed, encode, norm."""
        x = Embeddings(self.config, self.dtype, name="embeddings")(tokens)
        x = Encoder(self.config, self.dtype, name="encoder")(x)
        return LayerNorm(dtype=self.dtype, name="final_layer_norm")(x)


class CLIPTextModel(nn.Module):
    """CLIP's text encoder (arXiv 2103.00020), with transformers' parameter names.

    Attributes:
        config: its shape.
        dtype: dtype of the computation; norms and softmax are float32.
    """

    config: CLIPTextConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        """Give the last hidden states, normed; `tokens` in [0, vocab_size), padding included, attended to like any.

        Raises:
            ValueError: there are more tokens than positions.
        """
        return TextTransformer(self.config, self.dtype, name="text_model")(tokens).astype(jnp.float32)
