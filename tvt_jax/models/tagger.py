"""RAM (Recognize Anything, arXiv 2306.03514) for tags alone: Swin, and a decoder whose queries are the tags."""

from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from tvt_jax.models import attention
from tvt_jax.models.attend import attend
from tvt_jax.models.config_json import require, require_fixed
from tvt_jax.models.layers import Dense
from tvt_jax.models.swin import SwinConfig, SwinTransformer

LayerNorm = partial(attention.LayerNorm, epsilon=1e-12)


@dataclass(frozen=True, kw_only=True)
class TaggerConfig:
    """Shape of RAM; the defaults are the published model's.

    Attributes:
        swin: the image encoder.
        num_tags: tags it knows.
        embedding_size: width of the tags' embeddings, which are CLIP's, and of the image's tokens.
        hidden_size: width of the decoder.
        num_attention_heads: heads of the decoder's layers.
        intermediate_size: width within its feed-forward.
        num_hidden_layers: its layers.
    """

    swin: SwinConfig = field(default_factory=SwinConfig)
    num_tags: int = 4585
    embedding_size: int = 512
    hidden_size: int = 768
    num_attention_heads: int = 4
    intermediate_size: int = 3072
    num_hidden_layers: int = 2

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be split into num_attention_heads={self.num_attention_heads}"
            )

    def to_json(self) -> dict[str, Any]:
        """Write what config.json holds."""
        return {"_class_name": "RAM", **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TaggerConfig":
        """Read config.json.

        Raises:
            ValueError: a field is missing or makes no network.
        """
        names = [x.name for x in fields(cls) if x.name != "swin"]
        require("RAM", data, lists=(), numbers=names)
        require_fixed("RAM", data, {})
        swin: Any = data.get("swin") if isinstance(data.get("swin"), dict) else {}
        lists = ("depths", "num_heads")
        numbers = [x.name for x in fields(SwinConfig) if x.name not in lists]
        require("SwinTransformer", swin, lists=lists, numbers=numbers)
        given = {name: swin[name] for name in numbers} | {name: tuple(swin[name]) for name in lists}
        return cls(swin=SwinConfig(**given), **{name: data[name] for name in names})


class Projections(nn.Module):
    """Attention from the tags to the image.

    Attributes:
        heads: number of heads.
    """

    heads: int

    @nn.compact
    def __call__(self, tags: Float[Array, "b1 n d"], image: Float[Array, "b m c"]) -> Float[Array, "b n d"]:
        """Project and attend; tags that are the same for every image are projected once."""
        width = tags.shape[-1]
        query = jnp.broadcast_to(Dense(width, name="query")(tags), (len(image), *tags.shape[1:]))
        key, value = Dense(width, name="key")(image), Dense(width, name="value")(image)
        split = (part.reshape(*part.shape[:2], self.heads, -1) for part in (query, key, value))
        return attend(*split).reshape(query.shape)


class Output(nn.Module):
    """A residual branch's last layer, and the layer norm after the sum."""

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], residual: Float[Array, "b1 n d"]) -> Float[Array, "b n d"]:
        """Project, add, norm."""
        return LayerNorm(name="LayerNorm")(residual + Dense(residual.shape[-1], name="dense")(x))


class CrossAttention(nn.Module):
    """Attention from the tags to the image, as a residual branch."""

    heads: int

    @nn.compact
    def __call__(self, tags: Float[Array, "b1 n d"], image: Float[Array, "b m c"]) -> Float[Array, "b n d"]:
        """Attend, add, norm."""
        return Output(name="output")(Projections(self.heads, name="self")(tags, image), tags)


class Intermediate(nn.Module):
    """The first half of the feed-forward."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n e"]:
        """Widen, exact GELU."""
        return jax.nn.gelu(Dense(self.width, name="dense")(x), approximate=False)


class DecoderLayer(nn.Module):
    """Cross-attention and feed-forward; the tags do not see one another."""

    config: TaggerConfig

    @nn.compact
    def __call__(self, tags: Float[Array, "b1 n d"], image: Float[Array, "b m c"]) -> Float[Array, "b n d"]:
        """Run both branches."""
        tags = CrossAttention(self.config.num_attention_heads, name="crossattention")(tags, image)
        return Output(name="output")(Intermediate(self.config.intermediate_size, name="intermediate")(tags), tags)


class Decoder(nn.Module):
    """The layers, one after the other."""

    config: TaggerConfig

    @nn.compact
    def __call__(self, tags: Float[Array, "1 n d"], image: Float[Array, "b m c"]) -> Float[Array, "b n d"]:
        """Run every layer."""
        for i in range(self.config.num_hidden_layers):
            tags = DecoderLayer(self.config, name=f"layer_{i}")(tags, image)
        return tags


class TaggingHead(nn.Module):
    """What the checkpoints call the decoder."""

    config: TaggerConfig

    @nn.compact
    def __call__(self, tags: Float[Array, "1 n d"], image: Float[Array, "b m c"]) -> Float[Array, "b n d"]:
        """Decode."""
        return Decoder(self.config, name="encoder")(tags, image)


class RAM(nn.Module):
    """RAM's tagging part, in float32, with the published checkpoint's parameter names.

    Attributes:
        config: its shape.
    """

    config: TaggerConfig

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n"]:
        """Give a logit for every tag; images of `config.swin.image_size` pixels a side, normalised by `normalise`."""
        config = self.config
        tokens = SwinTransformer(config.swin, name="visual_encoder")(images)
        tokens = Dense(config.embedding_size, name="image_proj")(tokens)
        shape = (config.num_tags, config.embedding_size)
        labels = self.param("label_embed", nn.initializers.normal(0.02), shape)
        tags = jax.nn.relu(Dense(config.hidden_size, name="wordvec_proj")(labels))
        return Dense(1, name="fc")(TaggingHead(config, name="tagging_head")(tags[None], tokens))[..., 0]
