"""PiSA-SR (arXiv 2412.03017): `pisa_sr.pkl`, two sets of LoRA for Stable Diffusion's UNet, for fidelity and detail."""

from pathlib import Path

from convert.adapters import PISASR, UNET, Adapted, layers_of, read_content, read_lora
from convert.layout import Tensors
from convert.lora import Branches
from convert.mapped import Refusal, brief, naming
from convert.sd import StableDiffusion
from tvt_jax.models.shapes import tensor_shapes


def read_pisasr(file: Path, base: StableDiffusion) -> Adapted:
    """Read PiSA-SR's two adapters of Stable Diffusion's UNet.

    Raises:
        FileNotFoundError: the file is missing, or a part of Stable Diffusion.
        ValueError: the file does not hold exactly what PiSA-SR's does.
    """
    content, shapes = read_content(file, PISASR), tensor_shapes(base.unet.config)
    layers, tensors = layers_of(shapes), content[UNET]
    sets: dict[str, Branches] = {}
    for which in ("pix", "sem"):
        whole, sets[which] = read_lora(
            file,
            _without(tensors, "sem" if which == "pix" else "pix"),
            adapters=[name for name in PISASR.adapters if name.endswith(which)],
            rank=content[f"lora_rank_unet_{which}"],
            layers=layers,
            shapes=shapes,
        )
        with naming(file):
            if whole:
                raise Refusal(f"holds {brief(min(whole))}, and PiSA-SR's file nothing but LoRA")
    return Adapted(vae=base.vae, unet=base.unet, unet_lora=sets["pix"], semantic=sets["sem"])


def _without(tensors: Tensors, which: str) -> Tensors:
    """Leave out the other set's; what belongs to neither stays, to be refused."""
    if type(tensors) is not dict:
        return tensors
    return {name: tensor for name, tensor in tensors.items() if not str(name).endswith(f"_{which}.weight")}
