"""What a full-size step needs at least, and what its program takes: FLOPs, and the UNet weights that are held.

    python -m proofs.needs [--config configs/sd21/adapt.py] [--topology v5e:2x2] [--out runs/needs]

Nothing is compiled: the program is traced, for TPUs that need not be there, and its products are counted.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import jax
import tyro
from jaxtyping import Array, PRNGKeyArray, PyTree

from benchmarks import report
from proofs.needed_flops import count_needed_flops
from tvt_jax.data.pipeline import batch_shapes
from tvt_jax.model_folder import count_parameters
from tvt_jax.models.remat import Remat
from tvt_jax.models.shapes import param_shapes
from tvt_jax.stages.adapt import AdaptStage
from tvt_jax.train.config import TrainConfig, load_config
from tvt_jax.train.flops import Flops, count_flops
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh
from tvt_jax.train.state import Batch
from tvt_jax.train.topology import topology_devices


@dataclass(frozen=True, kw_only=True)
class Options:
    """A step on paper.

    Attributes:
        config: of an adapt stage.
        topology: of TPUs, with an image for each chip.
        out: where the figures go, without ending.
    """

    config: Path = Path("configs/sd21/adapt.py")
    topology: str = "v5e:2x2"
    out: Path = Path("runs/needs")


def measure(config: TrainConfig, devices: list[Any]) -> dict[str, Any]:
    """Count the FLOPs of an image, in T, and the bytes of UNet weights, in GB.

    Raises:
        ValueError: the configuration is not of an adapt stage.
    """
    stage, images = config.stage, len(devices)
    if not isinstance(stage, AdaptStage):
        raise ValueError(f"the configuration is of a {type(stage).__name__}; give one of an AdaptStage")
    config = replace(config, data=replace(config.data, batch=images))
    mesh, frozen = make_mesh(config.data_shards, config.fsdp_shards, devices), stage.abstract()
    program = Program(config, mesh, frozen)
    batch = program.abstract_batch(batch_shapes(config.data))
    flops = {"needed": needed(program, batch, stage)}
    for remat in get_args(Remat):
        changed = replace(config, stage=replace(stage, compute=replace(stage.compute, remat=remat)))
        flops[remat] = count_flops(Program(changed, mesh, frozen).trace_step(batch).jaxpr.jaxpr)
    per_image = {name: [count / images / 1e12 for count in counts] for name, counts in flops.items()}
    return {"flops": per_image, "weights": weights(program, stage)}


def needed(program: Program, batch: dict[str, Any], stage: AdaptStage) -> Flops:
    """Count what reverse mode cannot do without for the losses of student and fake score."""
    student, fake = program.state.params["student"], program.state.params["fake"]
    rng = jax.eval_shape(lambda: jax.random.key(0))

    def fake_loss(fake: PyTree, frozen: PyTree, batch: Batch, latent: Array, rng: PRNGKeyArray) -> Array:
        return stage.distillation.fake_loss(fake, stage.teacher(frozen, batch), latent, rng)

    with jax.set_mesh(program.mesh):
        _, (_, latent) = jax.eval_shape(stage.student_loss, student, fake, program.frozen, batch, rng)
        parts = [
            needed_for(stage.student_loss, student, (fake, program.frozen, batch, rng)),
            needed_for(fake_loss, fake, (program.frozen, batch, latent, rng)),
        ]
    return Flops(*map(sum, zip(*parts, strict=True)))


def needed_for(loss: Any, trained: Any, others: tuple[Any, ...]) -> Flops:
    """Count the same for one loss, and gradients by its first argument."""
    jaxpr = jax.make_jaxpr(loss)(trained, *others).jaxpr
    wanted = [True] * len(jax.tree.leaves(trained))
    return count_needed_flops(jaxpr, wanted + [False] * (len(jaxpr.invars) - len(wanted)))


def weights(program: Program, stage: AdaptStage) -> dict[str, float]:
    """Count the bytes of UNet weights in GB: held here, trained in float32, and three UNets, two of them trained."""
    student, prior = (count_parameters(param_shapes(shape)) for shape in (stage.student, stage.prior))
    held = [*jax.tree.leaves(program.frozen["prior"]), *jax.tree.leaves(program.state.params)]
    return {
        "held": sum(leaf.size * leaf.dtype.itemsize for leaf in held) / 1e9,
        "trained": 4 * count_parameters(program.state.params) / 1e9,
        "three UNets": (4 * (student + prior) + 2 * prior) / 1e9,
    }


def table(figures: dict[str, Any]) -> str:
    """Make both tables in Markdown."""
    least = sum(figures["flops"]["needed"])
    flops = [
        [name, f"{sum(both):.2f}", f"{both[0]:.2f}", f"{both[1]:.2f}", f"{sum(both) / least:.3f}"]
        for name, both in figures["flops"].items()
    ]
    whole = figures["weights"]["three UNets"]
    held = [[name, f"{size:.2f}", f"{size / whole:.3f}"] for name, size in figures["weights"].items()]
    header = ["T FLOPs an image", "all", "XLA's", "attention kernels'", "over needed"]
    return f"{report.markdown(header, flops)}\n\n{report.markdown(['UNet weights', 'GB', 'of three UNets'], held)}"


def main() -> None:
    """Count, and write and print the tables."""
    options = tyro.cli(Options, description=__doc__)
    figures = measure(load_config(str(options.config), []), topology_devices(options.topology))
    report.write(options.out, figures, table(figures))
    print(table(figures))


if __name__ == "__main__":
    report.run_as_command(main)
