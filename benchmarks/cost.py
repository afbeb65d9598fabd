"""Tell what networks cost: parameters, and the multiply-adds of one image by convolutions, linear layers and attention.

    python -m benchmarks.cost [--side 512] [--model MODEL]

Nothing is computed: programs are traced and their products counted. "Published" counts a doubled image's convolution as
others do it, 36 products for a pixel of the input where 16 are enough.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from benchmarks import report
from configs.sd21.shapes import PRIOR, STUDENT, VAE_D4, VAE_D8
from tvt_jax.model_folder import count_parameters, read_model
from tvt_jax.models.shapes import param_shapes
from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig
from tvt_jax.stages.student import add_level
from tvt_jax.train.flops import OWN, inner_programs, repetitions, used_equations

KINDS = ("convolutions", "linear", "attention")
TOKENS = 77  # of a prompt of SD's text encoder
_DOUBLED = (2, 2)  # the kernels of a doubled image's four quarters
_PUBLISHED = 36 / 16


@dataclass(frozen=True, kw_only=True)
class Options:
    """Networks of the release's size, and of a model folder.

    Attributes:
        side: of the result, in pixels.
        model: a model folder beside them.
    """

    side: int = 512
    model: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one image.

    Attributes:
        parameters: how many.
        products: multiply-adds by kind.
        published: all of them, doubled images convolved in two steps.
    """

    parameters: int
    products: dict[str, float]
    published: float


def costs(vaes: dict[str, AutoencoderKLConfig], unets: dict[str, UNet2DConditionConfig], side: int) -> dict[str, Cost]:
    """Count for each VAE's two halves, and each UNet on latents of the VAE of the same name.

    Args:
        vaes: by name.
        unets: by name; a name's first word is a VAE's.
        side: of the image, in pixels.
    """
    found = {}
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    for name, config in vaes.items():
        low = side // config.downsampling
        latent = jax.ShapeDtypeStruct((1, low, low, config.latent_channels), jnp.float32)
        model, params = AutoencoderKL(config), param_shapes(config)
        for half, x in (("encode", image), ("decode", latent)):
            parts = ("encoder", "quant_conv") if half == "encode" else ("decoder", "post_quant_conv")
            held = {part: params[part] for part in parts}
            found[f"{name} VAE, {half}"] = cost(
                held, lambda p, x, m=model, h=half: m.apply({"params": p}, x, method=h), x
            )
    for name, unet in unets.items():
        low = side // vaes[name.split()[0]].downsampling
        latent = jax.ShapeDtypeStruct((1, low, low, unet.latent_channels), jnp.float32)
        text = jax.ShapeDtypeStruct((1, TOKENS, unet.cross_attention_dim), jnp.float32)
        network = UNet2DConditionModel(unet)
        found[f"{name} UNet"] = cost(
            param_shapes(unet), lambda p, z, t, n=network: n.apply({"params": p}, z, jnp.ones(1, int), t), latent, text
        )
    return found


def cost(params: Any, function: Callable[..., Any], *inputs: Any) -> Cost:
    """Count one function of parameters and inputs (shapes)."""
    products, published = dict.fromkeys(KINDS, 0.0), 0.0
    for kind, window, count in _products(jax.make_jaxpr(function)(params, *inputs).jaxpr, 1, in_loop=False):
        products[kind] += count
        published += count * (_PUBLISHED if window == _DOUBLED else 1)
    return Cost(parameters=count_parameters(params), products=products, published=published)


def _products(jaxpr: Any, times: int, in_loop: bool) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Kind, window and multiply-adds of each product; on a CPU attention goes in loops, and nothing else does."""
    for equation in used_equations(jaxpr):
        name = equation.primitive.name
        if name in OWN:
            is_convolution = name == "conv_general_dilated"
            window = equation.invars[1].aval.shape[:2] if is_convolution else ()
            kind = "convolutions" if is_convolution else "attention" if in_loop else "linear"
            yield kind, window, times * sum(OWN[name](equation)) / 2
        for inner in inner_programs(equation.params):
            yield from _products(inner, times * repetitions(name, equation.params), in_loop or name == "scan")


def table(figures: dict[str, Cost]) -> str:
    """In Markdown: millions of parameters, billions of multiply-adds."""
    header = ["GMACs", "parameters, M", *KINDS, "all", "published"]
    rows = [
        [
            name,
            f"{cost.parameters / 1e6:.2f}",
            *(f"{cost.products[kind] / 1e9:.1f}" for kind in KINDS),
            f"{sum(cost.products.values()) / 1e9:.1f}",
            f"{cost.published / 1e9:.1f}",
        ]
        for name, cost in figures.items()
    ]
    return report.markdown(header, rows)


def main() -> None:
    """Print the table."""
    options = tyro.cli(Options, description=__doc__)
    jax.config.update("jax_platforms", "cpu")
    vaes = {"4x": VAE_D4, "8x": VAE_D8}
    unets = {"4x TVT": STUDENT, "4x TVT without attention in the new level": add_level(PRIOR), "8x SD 2.1": PRIOR}
    if options.model:
        folder = read_model(options.model)
        name = options.model.resolve().name
        vaes |= {name: folder.vae_config} if folder.vae_config else {}
        unets |= {name: folder.unet_config} if folder.unet_config else {}
    print(table(costs(vaes, unets, options.side)))


if __name__ == "__main__":
    report.run_as_command(main)
