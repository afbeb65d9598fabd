"""What each method's restoration takes of a TPU or GPU that need not be there: memory, FLOPs and a predicted time.

    python -m benchmarks.planned --topology v5e:2x2 [--methods tvt osediff] [--side 512] [--quick]

One chip restores one picture in bfloat16, as `tvt upscale` does where it fits in one piece: encode, UNet, decode. It is
compiled from shapes alone. Of GPUs the compiler tells no time, and the memory is a lower bound (docs/training.md).
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import tyro

from benchmarks import report
from benchmarks.cost import TOKENS
from benchmarks.inference import METHODS, Method
from tvt_jax.inference.networks import run_whole
from tvt_jax.inference.statistics import Norms
from tvt_jax.models.shapes import param_shapes
from tvt_jax.models.unet import UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL
from tvt_jax.train.chips import GIB
from tvt_jax.train.plan import Plan, plan_program
from tvt_jax.train.sharding import make_mesh, replicated
from tvt_jax.train.topology import topology_devices


@dataclass(frozen=True, kw_only=True)
class Options:
    """One chip of a topology.

    Attributes:
        topology: v5e:2x2, h100:1 and so on, or local; one of its chips is taken.
        methods: whose restoration.
        side: of the result, in pixels.
        quick: keep the compiler from searching for fast kernels: there is no time then.
    """

    topology: str
    methods: tuple[Method, ...] = get_args(Method)
    side: int = 512
    quick: bool = False


def plan(method: Method, options: Options, devices: list[Any]) -> Plan:
    """Compile one method's restoration of one picture for one of the devices."""
    vae, unet, card = METHODS[method]
    mesh = make_mesh(1, 1, devices)
    shape = partial(jax.ShapeDtypeStruct, sharding=replicated(mesh))
    weights = tuple(jax.tree.map(lambda x: shape(x.shape, jnp.bfloat16), param_shapes(x)) for x in (vae, unet))
    low = options.side // vae.downsampling
    picture, noise = (shape((1, side, side, channels), jnp.float32) for side, channels in ((options.side, 3), (low, 4)))
    text, box = (shape(x, jnp.float32) for x in ((1, TOKENS, unet.cross_attention_dim), (1, 4)))
    norms = Norms(cast(Any, box))
    networks = AutoencoderKL(vae, dtype=jnp.bfloat16), UNet2DConditionModel(unet, dtype=jnp.bfloat16)
    with jax.set_mesh(mesh):
        traced = jax.jit(run_whole, static_argnums=(0, 1)).trace(
            networks, card.step, weights, picture, noise, text, norms
        )
    return plan_program(traced, options.topology, mesh, 1, options.quick)


def row(method: Method, found: Plan) -> list[str]:
    """Give a row of the table."""
    at_least = "at least " if found.at_least else ""
    memory = f"{at_least}{found.peak / GIB:.2f}" if found.fits else "does not fit"
    seconds = f"{found.seconds:.3f}" if found.seconds else ""
    return [method, memory, f"{found.arguments / GIB:.2f}", f"{found.flops / 1e12:.2f}", seconds]


def main() -> None:
    """Print the table, a row as it is made to stderr."""
    options, rows = tyro.cli(Options, description=__doc__), []
    devices = topology_devices(options.topology)
    for method in options.methods:
        rows.append(row(method, plan(method, options, devices)))
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    header = (f"{options.topology}, bfloat16", "memory, GiB", "of that weights", "T FLOPs", "predicted seconds")
    print(report.markdown(header, rows))


if __name__ == "__main__":
    report.run_as_command(main)
