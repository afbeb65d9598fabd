"""A model as one program that runs without this package: jax's own export, the weights beside it."""

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from jaxtyping import Array, Float, PyTree
from safetensors.numpy import save_file
from tyro.conf import Positional

from tvt_jax.diffusion import restore_latent
from tvt_jax.files import whole_folder
from tvt_jax.model_folder import ModelFolder, read_model
from tvt_jax.models.platform import ANY, traced_for
from tvt_jax.models.unet import UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL
from tvt_jax.place import check, local_only

PLATFORMS = ("cpu", "cuda", "tpu")
# What a user needs besides jax, numpy, pillow, flatbuffers and safetensors: nothing.
_SCRIPT = '''"""python run.py IN.png OUT.png: restore a picture of the program's size, enlarged already."""

import sys

import jax.export
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

program = jax.export.deserialize(bytearray(open("program.jax", "rb").read()))
picture = np.asarray(Image.open(sys.argv[1]).convert("RGB"), np.float32)[None] / 127.5 - 1
restored = np.asarray(program.call(load_file("weights.safetensors"), picture))[0]
Image.fromarray(np.rint((restored + 1) * 127.5).astype(np.uint8)).save(sys.argv[2])
'''


def main(words: Sequence[str] | None = None) -> int:
    """Parse a command line, by default this program's, do what it says, and return the exit status."""
    try:
        tyro.cli(export_program, prog="tvt export-program", args=words)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def export_program(
    model: Positional[Path],
    out: Positional[Path],
    /,
    platforms: str = "cpu,cuda,tpu",
    tile: int = 512,
) -> None:
    """Write a model's restoration as one program (program.jax), its weights, and a script of ten lines that runs it.

    It takes images [b tile tile 3] in [-1, 1] that have been enlarged already, any number of them, and gives as many.

    Args:
        model: a model folder
        out: the folder to write, which must not be there
        platforms: those that can run the program, joined by commas
        tile: side of the images in pixels
    """
    check(model, "gs", "hf")
    local_only(out)
    if importlib.util.find_spec("flatbuffers") is None:
        raise ValueError("exporting needs flatbuffers: pip install 'tvt-jax[export]'")
    names = platforms.split(",")
    if unknown := [name for name in names if name not in PLATFORMS]:
        raise ValueError(f"unknown platform '{unknown[0]}', choose from {','.join(PLATFORMS)}")
    if out.exists():
        raise FileExistsError(f"{out} is there already: choose another folder")
    folder = read_model(model)
    restore, multiple = restoration(folder)
    if tile < 1 or tile % multiple:
        raise ValueError(f"tile={tile} must be a multiple of {multiple} pixels for this model")
    # In C order: safetensors writes memory as it lies.
    weights = {name: np.ascontiguousarray(leaf) for name, leaf in flatten_dict(_weights(folder), sep="/").items()}
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in weights.items()}
    images = jax.ShapeDtypeStruct(export.symbolic_shape(f"b, {tile}, {tile}, 3"), jnp.float32)
    with traced_for(ANY):
        program = export.export(jax.jit(restore), platforms=names)(shapes, images)
    with whole_folder(out) as partial:
        (partial / "program.jax").write_bytes(program.serialize())
        save_file(weights, partial / "weights.safetensors")
        (partial / "run.py").write_text(_SCRIPT)
        about = {"tile": tile, "platforms": names, "card": asdict(folder.card)}
        (partial / "program.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {out}")


def restoration(folder: ModelFolder) -> tuple[Any, int]:
    """Give the whole restoration as a function of weights by name and images, and what their sides are a multiple of.

    Raises:
        ValueError: the folder lacks a network or its prompt, or wants the posterior sampled.
    """
    if folder.vae_config is None or folder.unet_config is None or folder.prompt_embedding is None:
        raise ValueError("this model folder has no UNet or no prompt: it restores nothing")
    vae, unet = AutoencoderKL(folder.vae_config), UNet2DConditionModel(folder.unet_config)
    step, sampled = folder.card.step, folder.card.posterior == "sample"

    def restore(weights: dict[str, Array], images: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        params = unflatten_dict(weights, sep="/")

        def predict_noise(latent: Array, timesteps: Array) -> Array:
            prompt = params["prompt"]
            text = jnp.broadcast_to(prompt, (latent.shape[0], *prompt.shape))
            return unet.apply({"params": params["unet"]}, latent, timesteps, text)

        rng = jax.random.key(0) if sampled else None
        latent = vae.apply({"params": params["vae"]}, images, rng, method="to_latent")
        clean = restore_latent(latent, predict_noise, *step)
        return jnp.clip(vae.apply({"params": params["vae"]}, clean, method="to_image"), -1, 1)

    return restore, folder.vae_config.downsampling * 2 ** (len(folder.unet_config.block_out_channels) - 1)


def _weights(folder: ModelFolder) -> dict[str, PyTree]:
    return {"vae": folder.vae, "unet": folder.unet, "prompt": folder.prompt_embedding}
