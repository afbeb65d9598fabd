"""OSEDiff (arXiv 2406.08177): `osediff.pkl`, LoRA for Stable Diffusion's UNet and for the encoder of its VAE."""

from pathlib import Path

from convert.adapters import OSEDIFF, UNET, VAE, Adapted, layers_of, read_content, read_lora
from convert.layout import fit
from convert.mapped import Refusal, naming
from convert.sd import StableDiffusion
from tvt_jax.model_folder import Network
from tvt_jax.models.shapes import tensor_shapes

_WHOLE = ("conv_in.weight", "conv_in.bias")  # trained besides its LoRA
_ENCODER = ("encoder.", "quant_conv.")


def read_osediff(file: Path, base: StableDiffusion) -> Adapted:
    """Read OSEDiff's LoRA of Stable Diffusion's VAE and UNet, in the latter the layer that is trained whole.

    Raises:
        FileNotFoundError: the file is missing, or a part of Stable Diffusion.
        ValueError: the file does not hold exactly what OSEDiff's does.
    """
    content = read_content(file, OSEDIFF)
    shapes = {"vae": tensor_shapes(base.vae.config), "unet": tensor_shapes(base.unet.config)}
    whole, lora = read_lora(
        file,
        content[UNET],
        adapters=OSEDIFF.adapters,
        rank=content["rank_unet"],
        layers=layers_of(shapes["unet"]),
        shapes=shapes["unet"],
    )
    none, vae_lora = read_lora(
        file,
        content[VAE],
        adapters=OSEDIFF.adapters[:1],
        rank=content["rank_vae"],
        layers=layers_of(shapes["vae"], _ENCODER),
        shapes=shapes["vae"],
    )
    with naming(file):
        if set(whole) != set(_WHOLE) or none:
            raise Refusal(f"holds {', '.join(sorted(whole | none)) or 'no layer'} whole, not {' and '.join(_WHOLE)}")
    unet = fit({**base.unet.tensors, **whole}, shapes["unet"], str(file))
    return Adapted(vae=base.vae, unet=Network(base.unet.config, unet), vae_lora=vae_lora, unet_lora=lora)
