"""RAM put together from transformers' modules, and the weights of one in the published checkpoint's names."""

import re
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from transformers import BlipTextConfig, SwinConfig, SwinModel
from transformers.models.blip.modeling_blip_text import BlipTextAttention, BlipTextIntermediate, BlipTextOutput

from tvt_jax.models import swin
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.tagger import TaggerConfig

# Windows of 3 on grids of 24, 12, 6 and 3: moved windows in three stages, and one whole grid in the last.
SMALL = TaggerConfig(
    swin=swin.SwinConfig(image_size=96, embed_dim=24, depths=(2, 2, 2, 2), num_heads=(3, 6, 12, 24), window_size=3),
    num_tags=20,
    embedding_size=16,
    hidden_size=24,
    intermediate_size=40,
)

_SWIN_NAMES = {
    r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"^patch_embed\.norm": "embeddings.norm",
    r"^norm\.": "layernorm.",
    r"^layers\.": "encoder.layers.",
    r"(blocks\.\d+)\.norm1": r"\1.layernorm_before",
    r"(blocks\.\d+)\.norm2": r"\1.layernorm_after",
    r"attn\.proj": "attention.o_proj",
    r"attn\.relative_position_bias_table": "attention.relative_position_bias.relative_position_bias_table",
}


def random_ram(config: TaggerConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Draw every tensor, so large that attention is far from even and no part of the network is idle."""
    generator = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        noise = generator.standard_normal(shape, np.float32)
        if len(shape) == 1:
            return 0.2 * noise + np.float32(name.endswith("weight"))
        is_table = name.endswith(("table", "label_embed"))
        return noise * np.float32(1 if is_table else 1.5 * np.prod(shape[1:]) ** -0.5)

    return {name: draw(name, shape) for name, shape in tensor_shapes(config).items()}


def swin_model(
    tensors: dict[str, torch.Tensor], config: swin.SwinConfig, dtype: torch.dtype = torch.float64
) -> SwinModel:
    """Give transformers' Swin with the tensors of a published `visual_encoder`."""
    options = {name: getattr(config, name) for name in config.__dataclass_fields__}
    options |= {"depths": list(config.depths), "num_heads": list(config.num_heads), "drop_path_rate": 0.0}
    network = SwinModel(SwinConfig(layer_norm_eps=1e-5, hidden_act="gelu", **options)).to(dtype).eval()
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("visual_encoder.")
        for pattern, replacement in _SWIN_NAMES.items():
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part
        else:
            renamed[name] = tensor
    missing, unknown = network.load_state_dict(renamed, strict=False)
    assert not unknown
    assert all(name.endswith("relative_position_index") for name in missing)
    return network


def image_tokens(network: SwinModel, images: torch.Tensor) -> torch.Tensor:
    """Give RAM's tokens of images (b 3 h w): the pooled one first."""
    output = network(images)
    return torch.cat([output.pooler_output[:, None], output.last_hidden_state], 1)


def blip_layer(
    ram: dict[str, torch.Tensor], config: TaggerConfig, index: int, dtype: torch.dtype = torch.float64
) -> dict[str, torch.nn.Module]:
    """Give the parts of BLIP's text layer that RAM's decoder keeps, with its tensors."""
    options = BlipTextConfig(
        hidden_size=config.hidden_size,
        encoder_hidden_size=config.embedding_size,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        layer_norm_eps=1e-12,
        hidden_act="gelu",
    )
    options._attn_implementation = "eager"
    parts = {
        "crossattention": BlipTextAttention(options, is_cross_attention=True, layer_idx=index),
        "intermediate": BlipTextIntermediate(options),
        "output": BlipTextOutput(options),
    }
    for name, part in parts.items():
        prefix = f"tagging_head.encoder.layer.{index}.{name}."
        part.load_state_dict({key.removeprefix(prefix): x for key, x in ram.items() if key.startswith(prefix)})
        part.to(dtype).eval()
    return parts


def run_blip_layer(parts: dict[str, torch.nn.Module], tags: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Attend from the tags to the image, and feed forward."""
    attended = parts["crossattention"](tags, encoder_hidden_states=image)
    attended = attended[0] if isinstance(attended, tuple) else attended
    return parts["output"](parts["intermediate"](attended), attended)


def tag_logits(tensors: dict[str, np.ndarray], images: np.ndarray, config: TaggerConfig) -> np.ndarray:
    """Run RAM in float64 on normalised images (b h w 3)."""
    return network({name: torch.tensor(tensor).double() for name, tensor in tensors.items()}, config)(images)


def network(ram: dict[str, torch.Tensor], config: TaggerConfig) -> Callable[[np.ndarray], np.ndarray]:
    """Build RAM in the precision of its tensors; it takes normalised images (b h w 3)."""
    dtype = ram["fc.weight"].dtype
    encoder = swin_model({k: x for k, x in ram.items() if k.startswith("visual_encoder.")}, config.swin, dtype)
    layers = [blip_layer(ram, config, index, dtype) for index in range(config.num_hidden_layers)]

    @torch.no_grad()
    def run(images: np.ndarray) -> np.ndarray:
        tokens = image_tokens(encoder, torch.tensor(images).to(dtype).permute(0, 3, 1, 2))
        image = F.linear(tokens, ram["image_proj.weight"], ram["image_proj.bias"])
        tags = F.relu(F.linear(ram["label_embed"], ram["wordvec_proj.weight"], ram["wordvec_proj.bias"]))
        tags = tags[None].expand(len(images), -1, -1)
        for layer in layers:
            tags = run_blip_layer(layer, tags, image)
        return F.linear(tags, ram["fc.weight"], ram["fc.bias"])[..., 0].numpy()

    return run
