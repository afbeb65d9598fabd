"""Names of the original Stable Diffusion 2 checkpoint, turned into diffusers' and transformers'."""

import re
from collections.abc import Mapping

import numpy as np

from convert.mapped import Refusal, brief

VAE = "first_stage_model."
UNET = "model.diffusion_model."
TEXT_ENCODER = "cond_stage_model.model."
_TEXT_ENCODERS = (TEXT_ENCODER, "conditioner.embedders.0.model.")  # the latter is sd-turbo's
EMA = "model_ema."

_LEVELS = 4
_LAYERS_USED = 23  # of OpenCLIP's 24: Stable Diffusion 2 reads the last but one

_VAE_MODULES = {
    r"mid\.block_1": "mid_block.resnets.0",
    r"mid\.block_2": "mid_block.resnets.1",
    r"mid\.attn_1\.norm": "mid_block.attentions.0.group_norm",
    r"mid\.attn_1\.([qkv])": r"mid_block.attentions.0.to_\1",
    r"mid\.attn_1\.proj_out": "mid_block.attentions.0.to_out.0",
    r"down\.(\d)\.block\.(\d)": r"down_blocks.\1.resnets.\2",
    r"down\.(\d)\.downsample": r"down_blocks.\1.downsamplers.0",
    r"nin_shortcut": "conv_shortcut",
    r"norm_out": "conv_norm_out",
}
_RESNET_MODULES = {
    r"in_layers\.0": "norm1",
    r"in_layers\.2": "conv1",
    r"emb_layers\.1": "time_emb_proj",
    r"out_layers\.0": "norm2",
    r"out_layers\.3": "conv2",
    r"skip_connection": "conv_shortcut",
}
_UNET_MODULES = {
    r"time_embed\.0": "time_embedding.linear_1",
    r"time_embed\.2": "time_embedding.linear_2",
    r"input_blocks\.0\.0": "conv_in",
    r"out\.0": "conv_norm_out",
    r"out\.2": "conv_out",
    r"middle_block\.0": "mid_block.resnets.0",
    r"middle_block\.1": "mid_block.attentions.0",
    r"middle_block\.2": "mid_block.resnets.1",
}
_TEXT_MODULES = {
    r"positional_embedding": "text_model.embeddings.position_embedding.weight",
    r"token_embedding": "text_model.embeddings.token_embedding",
    r"ln_final": "text_model.final_layer_norm",
    r"transformer\.resblocks\.(\d+)": r"text_model.encoder.layers.\1",
    r"ln_([12])": r"layer_norm\1",
    r"attn\.out_proj": "self_attn.out_proj",
    r"mlp\.c_fc": "mlp.fc1",
    r"mlp\.c_proj": "mlp.fc2",
}


_KEYS = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_WIDTHS = {768: "Stable Diffusion 1", 1280: "Stable Diffusion XL's refiner", 2048: "Stable Diffusion XL"}
_WIDTH = 1024


def check_ldm(tensors: Mapping[str, np.ndarray]) -> None:
    """Check that this is the original single file, and of Stable Diffusion 2's size.

    Raises:
        Refusal: it is another one's, or no Stable Diffusion, or has averaged weights of which it cannot be told where
            they belong.
    """
    if not any(name.startswith(UNET) for name in tensors):
        raise Refusal(f"is not a Stable Diffusion checkpoint: no tensor's name begins with {UNET}")
    if _KEYS in tensors and (width := tensors[_KEYS].shape[-1]) != _WIDTH:
        raise Refusal(
            f"reads texts of width {width} ({_WIDTHS.get(width, 'another size')}), and Stable Diffusion 2 of {_WIDTH}: "
            "a single file of another size does not say all of it; make a diffusers folder of it first"
        )
    known = {averaged_name(name) for name in tensors if name.startswith(UNET)}
    if odd := sorted(name for name in tensors if name.startswith(EMA + "diffusion_model") and name not in known):
        raise Refusal(f"has the averaged weight {brief(odd[0])}, which belongs to no weight of its UNet: it is damaged")


def split_ldm(tensors: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Give the state dicts of vae, unet and text_encoder; of the UNet the averaged weights, where there are any."""
    parts: dict[str, dict[str, np.ndarray]] = {"vae": {}, "unet": {}, "text_encoder": {}}
    for name, tensor in tensors.items():
        if name.startswith(VAE):
            parts["vae"][vae_name(name.removeprefix(VAE))] = tensor
        elif name.startswith(UNET):
            parts["unet"][unet_name(name.removeprefix(UNET))] = tensors.get(averaged_name(name), tensor)
        elif prefix := next((prefix for prefix in _TEXT_ENCODERS if name.startswith(prefix)), None):
            parts["text_encoder"].update(text_tensors(name.removeprefix(prefix), tensor))
    return parts


def averaged_name(name: str) -> str:
    """Give the name of the average of a weight, which has lost its dots."""
    return EMA + name.removeprefix("model.").replace(".", "")


def vae_name(name: str) -> str:
    """Give diffusers' name of a tensor of the VAE."""
    up = re.match(r"decoder\.up\.(\d)\.(block\.(\d)|upsample)(.*)", name)
    if up:
        level, kind, resnet, rest = up.groups()
        inner = "upsamplers.0" if kind == "upsample" else f"resnets.{resnet}"
        name = f"decoder.up_blocks.{_LEVELS - 1 - int(level)}.{inner}{rest}"
    return _rename(name, _VAE_MODULES)


def unet_name(name: str) -> str:
    """Give diffusers' name of a tensor of the UNet with two layers a level."""
    block = re.match(r"(input|output)_blocks\.(\d+)\.(\d)\.(.*)", name)
    if block and not name.startswith("input_blocks.0."):
        side, index, part, rest = block[1], int(block[2]), int(block[3]), block[4]
        name = (_input if side == "input" else _output)(index, part, rest)
    return _rename(_rename(name, _UNET_MODULES), _RESNET_MODULES)


def _input(index: int, part: int, rest: str) -> str:
    level, layer = divmod(index - 1, 3)
    if layer == 2:
        return f"down_blocks.{level}.downsamplers.0.{rest.replace('op.', 'conv.')}"
    return f"down_blocks.{level}.{('resnets', 'attentions')[part]}.{layer}.{rest}"


def _output(index: int, part: int, rest: str) -> str:
    level, layer = divmod(index, 3)
    if rest.startswith("conv."):
        return f"up_blocks.{level}.upsamplers.0.{rest}"
    return f"up_blocks.{level}.{('resnets', 'attentions')[part]}.{layer}.{rest}"


def text_tensors(name: str, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """Give transformers' tensors for one of OpenCLIP's: three for the joint projection, none for what is not used."""
    layer = re.match(r"transformer\.resblocks\.(\d+)\.", name)
    if name in ("text_projection", "logit_scale", "attn_mask") or (layer and int(layer[1]) >= _LAYERS_USED):
        return {}
    joint = re.fullmatch(r"(.*)\.attn\.in_proj_(weight|bias)", name)
    if not joint:
        return {_rename(name, _TEXT_MODULES): tensor}
    prefix, thirds = _rename(joint[1], _TEXT_MODULES), np.split(tensor, 3)
    return {f"{prefix}.self_attn.{x}_proj.{joint[2]}": part for x, part in zip("qkv", thirds, strict=True)}


def _rename(name: str, modules: Mapping[str, str]) -> str:
    for old, new in modules.items():
        name = re.sub(rf"(?<!\w){old}(?!\w)", new, name)
    return name
