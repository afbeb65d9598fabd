"""Will it fit, and how fast will it be: the real training step, compiled for devices that need not be there."""

import ctypes
import json
import math
import re
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from tvt_jax import compilation_cache
from tvt_jax.data.pipeline import batch_shapes
from tvt_jax.place import Place
from tvt_jax.train import saved_step
from tvt_jax.train.chips import GIB, Chip, chip_of
from tvt_jax.train.config import TrainConfig, check_devices
from tvt_jax.train.flops import count_flops
from tvt_jax.train.hlo import costs
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh
from tvt_jax.train.topology import topology_devices

# What a full plan may take of a quick one's memory: the adapt step at full size takes 1.11 of it on a v5e.
_FULL_OF_QUICK = 1.125
# To choose tiles for Triton's products the card must be there to try them; without, some find none.
_GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A step on one chip of a topology; sizes in bytes.

    Attributes:
        topology: as asked for.
        chips: how many.
        batch: images of all chips in a step.
        fits: whether the compiler could place it.
        at_least: whether memory is a lower bound: what the kernels of GPUs' libraries work in is not counted.
        reason: what the compiler says when it does not fit.
        memory: of the chip.
        arguments: state, frozen parameters and batch.
        temporaries: what the step needs beside them.
        peak: the most at any time.
        flops: of matrix products and convolutions in the step as written, recomputation included.
        compiled_flops: of what the compiler made of it, all arithmetic and work done twice included; products with
            padding are not, and loops count once. 0 for GPUs, whose compiler does not count.
        seconds: of a step, by the compiler's estimate of cycles, and Pallas kernels at what their shapes allow of the
            peak; without waiting for other chips. 0 where it estimates none, and when compiled with little effort.
        utilisation: share of the peak that `flops` in `seconds` are.
        collectives: kind -> (how many, bytes of their results); those between slices, over DCN, apart as dcn-kind.
        compile_seconds: on this machine.
    """

    topology: str
    chips: int
    batch: int
    fits: bool
    at_least: bool = False
    reason: str = ""
    memory: float = 0.0
    arguments: float = 0.0
    temporaries: float = 0.0
    peak: float = 0.0
    flops: float = 0.0
    compiled_flops: float = 0.0
    seconds: float = 0.0
    utilisation: float = 0.0
    collectives: dict[str, tuple[float, float]] | None = None
    compile_seconds: float = 0.0


def run(
    config: TrainConfig, topology: str, find_batch: bool, quick: bool, as_json: bool, save: Place | None = None
) -> int:
    """Make and print the plan that `train.py --plan` asks for; return 0 when the step fits, 1 when not.

    Raises:
        ValueError: the topology is not known, or of GPUs that are not there, with a batch to find or a step to save.
    """
    devices = topology_devices(topology)
    if _is_absent_gpu(topology, devices) and (find_batch or save):
        why = "kernels are chosen on the card itself" if save else "the memory is a lower bound"
        raise ValueError(f"--plan={topology} with {'--save' if save else '--find-batch'}: {why}; plan there, for local")
    if save:
        compilation_cache.disable()
    plan = largest(config, topology, devices) if find_batch else make_plan(config, topology, devices, quick, save)
    if find_batch and plan.fits and not quick:
        plan = _confirm(config, plan, devices)
    print(json.dumps(asdict(plan), indent=1) if as_json else describe(plan), flush=True)
    return 0 if plan.fits else 1


def make_plan(
    config: TrainConfig, topology: str, devices: list[Any], quick: bool = False, save: Place | None = None
) -> Plan:
    """Compile the step of `config` for these devices and read off what it takes; `save` keeps it in that file.

    `quick` keeps the compiler from searching for fast kernels: the time is not told then, and memory is about right.

    Raises:
        ValueError: a kernel does not fit the vector memory, which no batch would change.
    """
    _return_freed_memory()
    mesh = make_mesh(config.data_shards, config.fsdp_shards, devices)
    check_devices(config, mesh.size)
    program = Program(config, mesh, config.stage.abstract())
    traced = program.trace_step(program.abstract_batch(batch_shapes(config.data)))
    return plan_program(traced, topology, mesh, config.data.batch, quick, save)


def plan_program(
    traced: Any, topology: str, mesh: Mesh, batch: int, quick: bool = False, save: Place | None = None
) -> Plan:
    """Compile a traced program that makes `batch` images; the rest as in `make_plan`."""
    devices = list(mesh.devices.flat)
    absent_gpu = _is_absent_gpu(topology, devices)
    plan = partial(Plan, topology=topology, chips=mesh.size, batch=batch, at_least=absent_gpu)
    chip, begin = chip_of(devices[0]), time.monotonic()
    lowered = traced.lower()
    effort = {"exec_time_optimization_effort": -1.0} if quick else {}
    try:
        compiled = lowered.compile(effort | (_GPU_OPTIONS if absent_gpu else {}))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return plan(fits=False, reason=_reason(str(error), topology), memory=chip.memory * GIB)
    seconds = time.monotonic() - begin
    if save:
        saved_step.save(save, lowered, compiled, mesh)
    analysis, cost = compiled.memory_analysis(), costs(compiled.as_text())
    arguments, temporaries = float(analysis.argument_size_in_bytes), float(analysis.temp_size_in_bytes)
    peak = arguments + analysis.output_size_in_bytes - analysis.alias_size_in_bytes + temporaries
    counted = count_flops(traced.jaxpr.jaxpr)
    flops = sum(counted) / mesh.size
    predicted = 0.0 if quick else _seconds(chip, cost.cycles, counted.kernels / mesh.size)
    return plan(
        fits=not chip.memory or peak <= chip.memory * GIB,
        memory=chip.memory * GIB,
        arguments=arguments,
        temporaries=temporaries,
        peak=peak,
        flops=flops,
        compiled_flops=0.0 if absent_gpu else compiled.cost_analysis()["flops"] + counted.kernels / mesh.size,
        seconds=predicted,
        utilisation=flops / (predicted * chip.flops) if predicted else 0.0,
        collectives=cost.collectives,
        compile_seconds=seconds,
    )


def largest(config: TrainConfig, topology: str, devices: list[Any]) -> Plan:
    """Find the largest batch that fits with room for fast kernels, in whole images a chip; return its quick plan.

    The number is doubled until it is too large, and then the middle is tried: the compiler pads batches, so that five
    images can take as much as eight, and memory says little of where it ends.

    Raises:
        ValueError: it is not known how much memory these devices have.
    """
    chips = make_mesh(config.data_shards, config.fsdp_shards, devices).size

    def attempt(images: int) -> Plan:
        batch = images * chips * config.stage.accumulation
        plan = make_plan(_with_batch(config, batch), topology, devices, quick=True)
        verdict = f"{plan.peak / GIB:.2f} GiB" if plan.fits else "too many"
        print(f"{images} images a chip: {verdict}", file=sys.stderr, flush=True)
        return plan

    if not (room := chip_of(devices[0]).memory * GIB / _FULL_OF_QUICK):
        raise ValueError(f"--find-batch: how much memory has a {devices[0].device_kind}? Name a TPU topology, v5e:4x4")
    good, low, high = attempt(1), 1, math.inf
    while good.fits and high - low > 1:
        images = 2 * low if high == math.inf else (low + int(high)) // 2
        plan = attempt(images)
        if plan.fits and plan.peak <= room:
            good, low = plan, images
        else:
            high = images
    return good


def _confirm(config: TrainConfig, quick: Plan, devices: list[Any]) -> Plan:
    """Make the full plan of a quick one's batch, or of the next smaller that fits."""
    plan = quick
    for batch in range(quick.batch, 0, -quick.chips * config.stage.accumulation):
        print(f"a batch of {batch} in full", file=sys.stderr, flush=True)
        plan = make_plan(_with_batch(config, batch), quick.topology, devices)
        if plan.fits:
            break
    return plan


def describe(plan: Plan) -> str:
    """Write the plan in a few lines, the verdict last."""
    head = f"{plan.topology}: {plan.chips} chips, {plan.batch} images a step"
    if not plan.fits and not plan.peak:
        return f"{head}\ndoes not fit: {plan.reason}; try more fsdp_shards, remat, accumulation or a smaller batch"
    of = f" of {plan.memory / GIB:.0f}" if plan.memory else ""
    at_least = "at least " if plan.at_least else ""
    compiled = f"; as compiled {plan.compiled_flops / 1e12:.2f} T" if plan.compiled_flops else ""
    lines = [
        head,
        f"memory a chip      {at_least}{plan.peak / GIB:.2f} GiB{of}: "
        f"{plan.arguments / GIB:.2f} arguments, {plan.temporaries / GIB:.2f} temporaries",
        f"FLOPs              {plan.flops / 1e12:.2f} T a chip, "
        f"{plan.flops * plan.chips / plan.batch / 1e12:.2f} T an image{compiled}",
    ]
    if plan.seconds:
        lines.append(
            f"predicted          {plan.seconds:.3f} s a step, {plan.batch / plan.seconds:.1f} images/s, "
            f"{100 * plan.utilisation:.0f} % of the peak, without waiting for other chips"
        )
    for kind, (count, size) in sorted((plan.collectives or {}).items()):
        lines.append(f"{kind:18} {size / 2**20:.0f} MiB in {count:.0f}")
    fits = "fits, unless the libraries' kernels need the rest" if plan.at_least else "fits"
    lines += [f"compiled in        {plan.compile_seconds:.0f} s", fits if plan.fits else "does not fit"]
    return "\n".join(lines)


def _is_absent_gpu(topology: str, devices: list[Any]) -> bool:
    return topology != "local" and devices[0].platform == "gpu"


def _with_batch(config: TrainConfig, batch: int) -> TrainConfig:
    return replace(config, data=replace(config.data, batch=batch))


def _return_freed_memory() -> None:
    """Return it to the system: glibc keeps what the compiler has freed, and one plan after another would add up."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _seconds(chip: Chip, cycles: float, kernel_flops: float) -> float:
    """Estimate the time; a kernel on heads of 64 channels fills half of a matrix unit 128 wide."""
    return cycles / chip.clock + kernel_flops / (0.5 * chip.flops) if chip.clock else 0.0


def _reason(message: str, topology: str) -> str:
    """Find what the compiler says of the chip's memory; raise ValueError where a kernel lacks vector memory."""
    if kernel := re.search(r"memory space vmem.*?%([\w.]+).*? with size (\S+) and limit (\S+) ", message, re.DOTALL):
        raise ValueError(
            f"--plan={topology}: {kernel[1]} needs {kernel[2]} of {kernel[3]} of vector memory, whatever the batch; "
            "tiles of attention kernels are in tvt_jax/models/attend.py"
        )
    if temporaries := re.search(r"HLO temporaries \((\S+)\) exceeds available HBM \((\S+)\)", message):
        return f"temporaries need {temporaries[1]} of {temporaries[2]} hbm"
    found = re.search(r"Used [\d.]+\w? of [\d.]+\w? hbm[^.\n]*", message)
    return found[0] if found else message.splitlines()[0][:200]
