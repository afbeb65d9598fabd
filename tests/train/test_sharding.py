from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from tvt_jax.train.sharding import batch_sharding, fsdp_sharding, make_mesh

MIB = 2**18  # float32 numbers in a MiB


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 64, 128), ()),  # too small
        ((4, MIB), (None, "fsdp")),
        ((MIB, 4), ("fsdp",)),
        ((MIB + 1, 4), (None, "fsdp")),  # the largest dimension does not divide
        ((MIB + 1, 5), ()),  # none does
    ],
)
def test_large_arrays_are_split_along_their_largest_divisible_dimension(shape, spec):
    array = jax.ShapeDtypeStruct(shape, np.float32)
    assert fsdp_sharding(make_mesh(1, 4), array, min_mib=1.0).spec == PartitionSpec(*spec)


def test_nothing_is_split_without_fsdp():
    array = jax.ShapeDtypeStruct((4, MIB), np.float32)
    assert fsdp_sharding(make_mesh(4, 1), array, min_mib=1.0).spec == PartitionSpec()


@pytest.mark.parametrize(("data", "fsdp", "shape"), [(0, 1, (4, 1)), (0, 2, (2, 2)), (1, 1, (1, 1)), (1, 4, (1, 4))])
def test_mesh(data, fsdp, shape):
    assert make_mesh(data, fsdp).devices.shape == shape


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (0, 3), (0, 8), (2, 4)])
def test_a_mesh_that_does_not_fit(data, fsdp):
    with pytest.raises(ValueError, match="does not fit 4 devices"):
        make_mesh(data, fsdp)


def test_the_batch_is_split_over_both_axes():
    batch = jax.device_put(np.zeros((8, 2)), batch_sharding(make_mesh(2, 2), 8))
    assert {shard.data.shape for shard in batch.addressable_shards} == {(2, 2)}


@dataclass(frozen=True)
class Device:
    """What a mesh asks of a device that is not there."""

    id: int
    process_index: int
    slice_index: int
    platform: str = "tpu"
    coords: tuple[int, int, int] = (0, 0, 0)
    core_on_chip: int = 0
    device_kind: str = "a TPU of tomorrow"


def devices(*counts: int, slices: int = 1, platform: str = "tpu") -> list[Device]:
    """So many of each process, which together make so many slices, each two chips wide."""
    processes = [process for process, count in enumerate(counts) for _ in range(count)]
    size = len(processes) // slices
    return [
        Device(i, process, i // size, platform, (i % size % 2, i % size // 2, 0)) for i, process in enumerate(processes)
    ]


@pytest.mark.parametrize(("data", "fsdp", "shape"), [(0, 1, (8, 1)), (0, 2, (4, 2)), (0, 4, (2, 4)), (4, 2, (4, 2))])
def test_parameters_are_split_within_a_slice(data, fsdp, shape):
    mesh = make_mesh(data, fsdp, devices(2, 2, 2, 2, slices=2))
    assert mesh.devices.shape == shape and len(set(mesh.devices.flat)) == 8
    of_row = [{device.slice_index for device in row} for row in mesh.devices]
    assert of_row == [{0}] * (shape[0] // 2) + [{1}] * (shape[0] // 2)


@pytest.mark.parametrize(("data", "fsdp", "counts"), [(0, 8, (4, 4)), (1, 8, (4, 4)), (0, 4, (2, 2, 2, 2))])
def test_parameters_that_slices_would_share_are_refused(data, fsdp, counts):
    slices = len(counts)
    with pytest.raises(ValueError, match=f"fsdp_shards={fsdp} does not fit {slices} slices of {counts[0]} devices"):
        make_mesh(data, fsdp, devices(*counts, slices=slices))


def test_hosts_of_gpus_are_no_slices():
    assert make_mesh(0, 8, devices(4, 4, slices=2, platform="gpu")).devices.shape == (1, 8)


@pytest.mark.parametrize(
    ("data", "fsdp", "counts", "told"),
    [
        (4, 1, (4, 4), "4 devices of process 0 but 0 of process 1"),
        (1, 2, (2, 2, 2), "2 devices of process 0 but 0 of process 1"),
        (3, 2, (4, 4), "4 devices of process 0 but 2 of process 1"),
        (0, 1, (4, 2), "4 devices of process 0 but 2 of process 1"),
        (0, 2, (4, 4, 2), "4 devices of process 0 but 2 of process 2"),
    ],
)
@pytest.mark.parametrize("platform", ["tpu", "cpu"])
def test_processes_that_would_have_unequal_parts_are_refused(data, fsdp, counts, told, platform):
    """The first in a sentence, before anything is loaded: jax would end in the middle of the first batch."""
    with pytest.raises(ValueError, match=f"{told}, and each must have as many"):
        make_mesh(data, fsdp, devices(*counts, platform=platform))
