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
