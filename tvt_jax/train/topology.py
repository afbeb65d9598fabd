"""Devices to compile for that need not be there: TPU slices and NVIDIA GPUs."""

import importlib.util
import os
import re
from dataclasses import dataclass, replace
from typing import Any

import jax

from tvt_jax import compilation_cache
from tvt_jax.train.chips import GIB, GPUS

_A_HOST = 8  # GPUs


@dataclass(frozen=True, kw_only=True)
class _Card:
    """What XLA wants to know of a GPU, beside `chips.GPUS`; the figures are of its data sheet.

    Attributes:
        kind: jax's device_kind.
        capability: of CUDA, major.
        cores: multiprocessors.
        units: float32 units of each.
        shared: bytes of memory that a core's threads share.
        cache: bytes, of level 2.
        bandwidth: bytes a second.
        clock: in GHz.
    """

    kind: str
    capability: int
    cores: int
    units: int
    shared: int
    cache: int
    bandwidth: float
    clock: float


_H100 = _Card(
    kind="NVIDIA H100 80GB HBM3",
    capability=9,
    cores=132,
    units=128,
    shared=228 << 10,
    cache=50 << 20,
    bandwidth=3.352e12,
    clock=1.98,
)
_CARDS = {
    "a100": _Card(
        kind="NVIDIA A100-SXM4-80GB",
        capability=8,
        cores=108,
        units=64,
        shared=164 << 10,
        cache=40 << 20,
        bandwidth=2.039e12,
        clock=1.41,
    ),
    "h100": _H100,
    "h200": replace(_H100, kind="NVIDIA H200", bandwidth=4.8e12),
}
_GPU = re.compile(rf"({'|'.join(_CARDS)}):([1-9]\d*)")


def topology_devices(topology: str) -> list[Any]:
    """List the devices of a topology, none of which need be there; of `local`, those that are.

    v5e:4x4 is one slice of TPUs, 2xv5e:4x4 are two, which a slower network joins. h100:8 are eight GPUs of a host.

    Raises:
        ValueError: the compiler for them is not installed, or does not know the topology.
    """
    if topology == "local":
        return jax.devices()
    gpus = _GPU.fullmatch(topology)
    if gpus and not _has_cuda():
        raise ValueError(
            f"--plan={topology} needs jax's compiler for GPUs, which is not installed: pip install 'tvt-jax[cuda]' "
            "(it needs no GPU)"
        )
    compilation_cache.disable()
    # Neither may libtpu look for a TPU on this machine, nor jax for one to run on.
    os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost", TPU_STDERR_LOG_LEVEL="3")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # several plans at a time
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    jax.config.update("jax_platforms", "cpu")
    try:
        return _gpus(gpus[1], int(gpus[2])) if gpus else _tpus(topology)
    except Exception as error:  # the plug-ins raise many types
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"--plan={topology}: {first}; names are like v5e:4x4, v5p:2x2x1 and 2xv5e:4x4, h100:8 "
            f"({', '.join(_CARDS)}), or local, and TPUs need `pip install 'tvt-jax[tpu]'`"
        ) from error


def _tpus(topology: str) -> list[Any]:
    """List TPUs; the two cores of a v4 chip are one device wherever jax runs on them, and here only if asked for."""
    from jax.experimental import topologies

    slices, _, name = topology.rpartition("xv")
    name = f"v{name}" if slices else topology
    cores = {"chip_config_name": "megacore"} if name.startswith("v4") else {}
    options = {"num_slices": int(slices or 1), **cores}
    return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **options).devices)


def _gpus(name: str, count: int) -> list[Any]:
    """List GPUs, eight of a host."""
    from jax.experimental import topologies

    if count > _A_HOST and count % _A_HOST:
        raise ValueError(f"{count} GPUs are not whole hosts of {_A_HOST}")
    hosts = -(-count // _A_HOST)
    options = {"topology": f"1x{hosts}x{count // hosts}", "target_config": _target(_CARDS[name])}
    return list(topologies.get_topology_desc(name, "cuda", **options).devices)


def _target(card: _Card) -> str:
    """Describe a GPU in XLA's words (a GpuTargetConfigProto as text)."""
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  block_dim_limit_x: {2**31 - 1} block_dim_limit_y: {2**16 - 1} block_dim_limit_z: {2**16 - 1}
  registers_per_core_limit: {2**16} registers_per_block_limit: {2**16}
  shared_memory_per_block: {48 << 10} shared_memory_per_core: {card.shared}
  shared_memory_per_block_optin: {card.shared - 1024}
  core_count: {card.cores} fpus_per_core: {card.units} clock_rate_ghz: {card.clock}
  memory_bandwidth: {card.bandwidth:.0f} l2_cache_size: {card.cache}
  device_memory_size: {GPUS[card.kind].memory * GIB:.0f}
  cuda_compute_capability {{ major: {card.capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 9 }}
device_description_str: "{card.kind}"
"""


def _has_cuda() -> bool:
    try:
        return any(importlib.util.find_spec(f"jax_plugins.xla_cuda{version}") for version in (12, 13))
    except ModuleNotFoundError:  # no plug-in at all
        return False
