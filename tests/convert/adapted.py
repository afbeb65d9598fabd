"""OSEDiff and PiSA-SR at small size, made by diffusers and PEFT: their files, and what they make of a picture."""

import re
import warnings

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig

# The rule by which both choose layers, as their own training code writes it.
TARGETS = (
    *("to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_in", "conv_shortcut", "conv_out"),
    *("proj_out", "proj_in", "ff.net.2", "ff.net.0.proj"),
)
PARTS = ("encoder", "decoder", "others")


def lists(unet):
    """Names of layers by part: encoder, decoder, others."""
    found = {part: [] for part in PARTS}
    for name, _ in unet.named_parameters():
        if "bias" in name or "norm" in name or not any(target in name for target in TARGETS):
            continue
        down = name.startswith(("down_blocks", "conv_in"))
        part = "encoder" if down else "decoder" if name.startswith(("up_blocks", "conv_out")) else "others"
        found[part].append(name.removesuffix(".weight"))
    return found


def adapted(network, layers, rank, adapter):
    """Add LoRA by PEFT, with its default alpha, that is not at its start."""
    settings = LoraConfig(r=rank, init_lora_weights="gaussian", target_modules=layers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are what is wanted
        network.add_adapter(settings, adapter_name=adapter)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if f".{adapter}." in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return network


def networks(sd):
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_pretrained(sd / "unet").eval()
    return AutoencoderKL.from_pretrained(sd / "vae").eval(), unet, lists(unet)


def osediff(sd, file, rank=4):
    """Write the file; give the networks with LoRA in PEFT's hands."""
    vae, unet, layers = networks(sd)
    for part, names in layers.items():
        adapted(unet, names, rank, f"default_{part}")
    unet.set_adapters([f"default_{part}" for part in PARTS])
    with torch.no_grad():
        unet.conv_in.base_layer.weight.add_(torch.randn(unet.conv_in.base_layer.weight.shape) * 0.1)
        unet.conv_in.base_layer.bias.add_(0.3)
    of_vae = [
        name.removesuffix(".weight")
        for name, _ in vae.named_parameters()
        if name.endswith("weight") and "norm" not in name and re.match(r"encoder\.|quant_conv\.", name)
    ]
    adapted(vae, of_vae, rank, "default_encoder")
    content = {f"unet_lora_{part}_modules": names for part, names in layers.items()}
    content |= {"vae_lora_encoder_modules": of_vae * 2, "rank_unet": rank, "rank_vae": rank}
    content["state_dict_unet"] = {k: x for k, x in unet.state_dict().items() if "lora" in k or "conv_in" in k}
    content["state_dict_vae"] = {k: x for k, x in vae.state_dict().items() if "lora" in k}
    torch.save(content, file)
    return vae, unet


def pisasr(sd, file, ranks=(4, 2)):
    """As `osediff`."""
    vae, unet, layers = networks(sd)
    content = {}
    for which, rank in zip(("pix", "sem"), ranks, strict=True):
        for part, names in layers.items():
            adapted(unet, names, rank, f"default_{part}_{which}")
            content[f"unet_lora_{part}_modules_{which}"] = names
        content[f"lora_rank_unet_{which}"] = rank
    content["state_dict_unet"] = {k: x for k, x in unet.state_dict().items() if "lora" in k}
    torch.save(content, file)
    return vae, unet


def use(unet, *which):
    """Let these of PiSA-SR's two adapters count."""
    unet.set_adapters([f"default_{part}_{name}" for name in which for part in PARTS])
    return unet
