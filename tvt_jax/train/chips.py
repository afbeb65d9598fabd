"""What accelerators can do, as their makers say, and what a step makes of it."""

import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """A device; 0 stands for what is not known.

    Attributes:
        memory: in GiB.
        flops: bfloat16 products and sums a second, zeros counted.
        clock: in Hz.
    """

    memory: float
    flops: float
    clock: float


@dataclass(frozen=True)
class Work:
    """What a step takes.

    Attributes:
        flops: of its products on one device, recomputation included.
        devices: how many there are.
        peak: FLOP/s that one can do, in bfloat16; 0 where it is not known.
    """

    flops: float
    devices: int
    peak: float

    def use(self, rate: float, batch: int) -> dict[str, float]:
        """Tell what each device does at so many steps a second, of so many images."""
        flops = self.flops * rate
        use = {"images_per_s_per_device": rate * batch / self.devices, "tflops_per_s_per_device": flops / 1e12}
        return use | ({"utilisation": flops / self.peak} if self.peak else {})


# By jax's device_kind.
_TPUS = {
    "TPU v4": Chip(32.0, 275e12, 1.05e9),
    "TPU v5 lite": Chip(16.0, 197e12, 1.5e9),
    "TPU v5": Chip(95.0, 459e12, 1.75e9),
    "TPU v6 lite": Chip(32.0, 918e12, 1.75e9),
}
# Of a GPU that is there its driver tells the memory.
GPUS = {
    "NVIDIA A100-SXM4-40GB": Chip(39.5, 312e12, 0.0),
    "NVIDIA A100-SXM4-80GB": Chip(79.2, 312e12, 0.0),
    "NVIDIA H100 PCIe": Chip(79.1, 756e12, 0.0),
    "NVIDIA H100 80GB HBM3": Chip(79.1, 989e12, 0.0),
    "NVIDIA H200": Chip(140.9, 989e12, 0.0),
}


def chip_of(device: Any) -> Chip:
    """Look a device up; of one that is no TPU, and is there, its driver tells the memory."""
    if device.device_kind in _TPUS:
        return _TPUS[device.device_kind]
    known = GPUS.get(device.device_kind, Chip(0.0, 0.0, 0.0))
    try:
        memory = (device.memory_stats() or {}).get("bytes_limit", 0) / GIB
    except (AttributeError, jax.errors.JaxRuntimeError):  # a stand-in for one that is not there
        memory = known.memory
    return replace(known, memory=memory)


def machine_of(devices: int, device: Any) -> str:
    """Name what computes: so many accelerators, or the processor and how many cores of it there are."""
    if device.platform != "cpu":
        return device.device_kind if devices == 1 else f"{devices} {device.device_kind}"
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {next(iter(models), platform.machine())}"
