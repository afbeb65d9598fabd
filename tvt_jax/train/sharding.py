"""Where arrays live: the mesh, the batch split, and the one rule for parameters."""

from collections import Counter
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp")


def make_mesh(data: int, fsdp: int, devices: list[Any] | None = None) -> Mesh:
    """Make a mesh of `data` x `fsdp` devices; `data` 0 takes all that are left.

    Of several TPU slices, which a slower network (DCN) joins, `fsdp` stays within one, and `data` goes over all.

    Raises:
        ValueError: the devices do not fit the sizes, or would be shared unevenly among processes or slices.
    """
    devices = jax.devices() if devices is None else devices
    rows = data or max(len(devices) // fsdp, 1)
    if rows * fsdp > len(devices) or (not data and rows * fsdp != len(devices)):
        raise ValueError(
            f"a mesh of data_shards={data or 'auto'} x fsdp_shards={fsdp} does not fit {len(devices)} devices: "
            f"choose sizes whose product is at most {len(devices)} (fsdp_shards must divide it when data_shards is 0)"
        )
    chosen = devices[: rows * fsdp]
    _require_even(chosen, {device.process_index for device in devices}, f"data_shards={data} x fsdp_shards={fsdp}")
    return Mesh(_grid(rows, fsdp, chosen), AXES, axis_types=(AxisType.Auto,) * 2)


def _grid(rows: int, fsdp: int, devices: list[Any]) -> np.ndarray:
    """Lay the devices out so that those of a row are near one another, and within a slice of TPUs."""
    if devices[0].platform != "tpu":  # jax would refuse several hosts of GPUs, each of which it calls a slice
        return np.array(devices).reshape(rows, fsdp)
    slices = Counter(getattr(device, "slice_index", 0) for device in devices)  # only of several is it told
    if len(slices) == 1:
        return mesh_utils.create_device_mesh((rows, fsdp), devices, allow_split_physical_axes=True)
    if rows % len(slices) or len(set(slices.values())) > 1:
        raise ValueError(
            f"fsdp_shards={fsdp} does not fit {len(slices)} slices of {max(slices.values())} devices: parameters are "
            f"split within a slice, so it must divide {max(slices.values())}, and data_shards=0 takes all slices"
        )
    within, over = (rows // len(slices), fsdp), (len(slices), 1)
    return mesh_utils.create_hybrid_device_mesh(within, over, devices, allow_split_physical_axes=True)


def _require_even(devices: list[Any], processes: set[int], sizes: str) -> None:
    """Raise ValueError where a process has more of the devices than another, as each reads as much of a batch."""
    counts = Counter(device.process_index for device in devices)
    least, most = (which(processes, key=lambda process: counts[process]) for which in (min, max))
    if counts[least] != counts[most]:
        raise ValueError(
            f"a mesh of {sizes} has {counts[most]} devices of process {most} but {counts[least]} of process {least}, "
            "and each must have as many: set data_shards=0 to take all, or run on hosts that have as many devices each"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """Give every device the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, batch: int) -> NamedSharding:
    """Split the leading dimension over all devices.

    Raises:
        ValueError: `batch` images do not divide evenly.
    """
    if batch % mesh.size:
        raise ValueError(f"a batch of {batch} does not split over {mesh.size} devices: make it a multiple")
    return NamedSharding(mesh, PartitionSpec(AXES))


def fsdp_sharding(mesh: Mesh, array: Any, min_mib: float) -> NamedSharding:
    """Split an array of at least `min_mib` MiB over `fsdp`, along its largest divisible dimension; replicate others."""
    shards = mesh.shape["fsdp"]
    size = np.prod(array.shape) * np.dtype(array.dtype).itemsize
    divisible = [i for i, n in enumerate(array.shape) if n % shards == 0]
    if shards == 1 or size < min_mib * 2**20 or not divisible:
        return replicated(mesh)
    largest = max(divisible, key=lambda i: array.shape[i])
    return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))


def to_host(tree: Any) -> Any:
    """Gather whole numpy arrays in every process, wherever their parts lie; all processes must ask for them."""

    def gather(leaf: jax.Array) -> np.ndarray:
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            return jax.device_get(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(gather, tree)


def tree_shardings(mesh: Mesh, tree: Any, min_mib: float) -> Any:
    """Take `fsdp_sharding` of every leaf (arrays or shapes); optimiser and moving average so follow the parameters."""
    return jax.tree.map(lambda array: fsdp_sharding(mesh, array, min_mib), tree)
