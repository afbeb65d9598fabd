"""The TVT release: `vae.ckpt`, `TVTUNet/unet` and `model_TVT.pkl`, a PEFT LoRA with the fully trained layers in it."""

from dataclasses import dataclass
from pathlib import Path

from convert.adapters import RELEASE, read_content
from convert.layout import Tensors, fit, unwrapped
from convert.lora import ALPHA, Branches, check_lora, check_rank, split_lora
from convert.mapped import Refusal, brief, naming
from convert.sd import read_network
from convert.tensors import read_tensors
from tvt_jax.model_folder import Network
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

VAE_D4 = AutoencoderKLConfig(block_out_channels=(128, 256, 256), mid_block=False)

VAE_PREFIX = "vaeDe4."
# The release's adapters, and where the file lists their modules.
LORA_LISTS = {
    "default_encoder": "unet_lora_encoder_modules",
    "default_decoder": "unet_lora_decoder_modules",
    "default_others": "unet_lora_others_modules",
}


@dataclass(frozen=True)
class TVT:
    """The release: VAE-D4, and the UNet with its LoRA still apart."""

    vae: Network[AutoencoderKLConfig]
    unet: Network[UNet2DConditionConfig]
    lora: Branches


def read_tvt(folder: Path) -> TVT:
    """Read the release's folder `ckp`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file does not hold what the release's does.
    """
    files = folder / "vae.ckpt", folder / "model_TVT.pkl"
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: {folder} is not the release's folder of checkpoints")
    vae = {
        name.removeprefix(VAE_PREFIX): tensor
        for name, tensor in unwrapped(read_tensors(files[0]), str(files[0])).items()
        if name.startswith(VAE_PREFIX)
    }
    unet = read_network(folder / "TVTUNet" / "unet", UNet2DConditionConfig)
    trained, lora = read_lora_file(files[1])
    shapes = {name: tensor.shape for name, tensor in unet.tensors.items()}
    tensors = fit({**unet.tensors, **trained}, shapes, str(files[1]))
    check_lora(lora, shapes, str(files[1]))
    return TVT(
        vae=Network(VAE_D4, fit(vae, tensor_shapes(VAE_D4), str(files[0]))),
        unet=Network(unet.config, tensors),
        lora=lora,
    )


def read_lora_file(file: Path) -> tuple[Tensors, Branches]:
    """Split `state_dict_unet` of model_TVT.pkl into the layers trained whole and LoRA, with PEFT's alpha or its own.

    Raises:
        ValueError: it is another file, or has an entry that is not known and may change the LoRA.
    """
    content, tensors = read_content(file, RELEASE), read_tensors(file)
    with naming(file):
        alpha = content.get("lora_alpha", ALPHA)
        if type(alpha) not in (int, float) or not 0 < alpha < float("inf"):
            raise Refusal(f"has the lora_alpha {brief(alpha)}, which is no number above 0")
        trained, lora = split_lora(unwrapped(tensors, str(file)), float(alpha))
        check_rank(lora, content["rank_unet"])
    return trained, lora
