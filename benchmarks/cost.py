"""Tell what networks cost: parameters, and the multiply-adds of one image by convolutions, linear layers and attention.

    python -m benchmarks.cost [--side 512] [--model MODEL]

Nothing is computed: programs are traced and their products counted. "Published" counts a doubled image's convolution as
others do it, 36 products for a pixel of the input where 16 are enough. The last rows add networks up to methods.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from benchmarks import report
from configs.sd21.shapes import PRIOR, STUDENT, VAE_D4, VAE_D8
from tvt_jax.model_folder import count_parameters, read_model
from tvt_jax.models.lora import init_lora
from tvt_jax.models.platform import traced_for
from tvt_jax.models.shapes import param_shapes
from tvt_jax.models.tagger import RAM, TaggerConfig
from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig
from tvt_jax.stages.student import add_level, takes_lora
from tvt_jax.train.flops import OWN, inner_programs, repetitions, used_equations

KINDS = ("convolutions", "linear", "attention")
TAGGER = "the tagger, of any picture"
SECOND = "8x SD 2.1 UNet, PiSA-SR's second pass"
# The networks of each method, without the text encoder, which runs once a prompt.
METHODS = {
    "TVT": ("4x VAE, encode", "4x TVT UNet", "4x VAE, decode"),
    "TVT without attention in the new level": (
        "4x VAE, encode",
        "4x TVT without attention in the new level UNet",
        "4x VAE, decode",
    ),
    "OSEDiff, or PiSA-SR in one pass": ("8x VAE, encode", "8x SD 2.1 UNet", "8x VAE, decode"),
    "PiSA-SR in two passes": ("8x VAE, encode", "8x SD 2.1 UNet", SECOND, "8x VAE, decode"),
}
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

    def __add__(self, other: "Cost") -> "Cost":
        """Add up the costs of two networks."""
        return Cost(
            parameters=self.parameters + other.parameters,
            products={kind: self.products[kind] + other.products[kind] for kind in KINDS},
            published=self.published + other.published,
        )


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
        network, inputs = _unet(unet, side // vaes[name.split()[0]].downsampling)
        found[f"{name} UNet"] = cost(param_shapes(unet), lambda p, *x, n=network: n({"params": p}, *x), *inputs)
    return found


def _unet(config: UNet2DConditionConfig, low: int) -> tuple[Callable[..., Any], tuple[Any, Any]]:
    """Give a UNet, a function of variables, latent and text, and both inputs."""
    latent = jax.ShapeDtypeStruct((1, low, low, config.latent_channels), jnp.float32)
    text = jax.ShapeDtypeStruct((1, TOKENS, config.cross_attention_dim), jnp.float32)
    network = UNet2DConditionModel(config)
    return lambda held, z, text: network.apply(held, z, jnp.ones(1, int), text), (latent, text)


def second_pass(side: int) -> Cost:
    """Count PiSA-SR's second pass: the UNet again, with LoRA beside its weights, which alone is more to hold."""
    weights = param_shapes(PRIOR)
    lora = jax.eval_shape(lambda: init_lora(jax.random.key(0), weights, 4, takes_lora))
    network, inputs = _unet(PRIOR, side // VAE_D8.downsampling)
    return cost(lora, lambda lora, held, *x: network({"params": held, "lora": lora}, *x), weights, *inputs)


def tagger() -> Cost:
    """Count RAM's tagging of one picture, which it shrinks to its own size."""
    config = TaggerConfig()
    image = jax.ShapeDtypeStruct((1, config.swin.image_size, config.swin.image_size, 3), jnp.float32)
    return cost(param_shapes(config), lambda p, x: RAM(config).apply({"params": p}, x), image)


def methods(found: dict[str, Cost]) -> dict[str, Cost]:
    """Add up what each method runs."""
    return {name: reduce(Cost.__add__, (found[part] for part in parts)) for name, parts in METHODS.items()}


def cost(params: Any, function: Callable[..., Any], *inputs: Any) -> Cost:
    """Count one function of parameters and inputs (shapes)."""
    products, published = dict.fromkeys(KINDS, 0.0), 0.0
    with traced_for("gpu"):  # a CPU saves products that others multiply
        traced = jax.make_jaxpr(function)(params, *inputs)
    for kind, window, count in _products(traced.jaxpr, 1, in_loop=False):
        products[kind] += count
        published += count * (_PUBLISHED if window == _DOUBLED else 1)
    return Cost(parameters=count_parameters(params), products=products, published=published)


def _products(jaxpr: Any, times: int, in_loop: bool) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Kind, window and multiply-adds of each product; attention's has the heads for a batch, or goes in loops."""
    for equation in used_equations(jaxpr):
        name = equation.primitive.name
        if name in OWN:
            is_convolution = name == "conv_general_dilated"
            window = equation.invars[1].aval.shape[:2] if is_convolution else ()
            kind = "convolutions" if is_convolution else "attention" if in_loop or _is_batched(equation) else "linear"
            yield kind, window, times * sum(OWN[name](equation)) / 2
        for inner in inner_programs(equation.params):
            yield from _products(inner, times * repetitions(name, equation.params), in_loop or name == "scan")


def _is_batched(equation: Any) -> bool:
    _, (batch, _) = equation.params.get("dimension_numbers", ((), ((), ())))
    return bool(batch)


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
    found = costs(vaes, unets, options.side) | {SECOND: second_pass(options.side), TAGGER: tagger()}
    print(table(found | methods(found)))


if __name__ == "__main__":
    report.run_as_command(main)
