import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tvt_jax.train.hlo import costs

TPU = """HloModule step

%fused (a: f32[8,4]) -> f32[8,4] {
  %a = f32[8,4]{1,0} parameter(0)
  ROOT %negated = f32[8,4]{1,0} negate(%a), backend_config={"window_config":{"estimated_cycles":"1000"}}
}

%condition (c: (s32[], f32[8,4])) -> pred[] {
  %c = (s32[], f32[8,4]{1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(16)
  ROOT %less = pred[] compare(%c, %limit), direction=LT
}

%body (b: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %b = (s32[], f32[8,4]{1,0}) parameter(0)
  %work = f32[8,4]{1,0} fusion(%b), kind=kLoop, calls=%fused, backend_config={"window_config":{"estimated_cycles":"30"}}
  %sum = f32[8,4]{1,0} all-reduce(%work), replica_groups={{0,1}}, to_apply=%add
  ROOT %next = (s32[], f32[8,4]{1,0}) tuple(%b, %sum)
}

ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %loop = (s32[], f32[8,4]{1,0}) while(%x), condition=%condition, body=%body
  %start = (bf16[4,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%x), dimensions={0}
  %gathered = bf16[8,4]{1,0} all-gather-done(%start)
  ROOT %out = f32[8,4]{1,0} fusion(%loop), calls=%fused, backend_config={"window_config":{"estimated_cycles":"7"}}
}
"""


def test_loops_count_as_often_as_they_run_and_fusions_once():
    found = costs(TPU)
    assert found.cycles == 16 * 30 + 7
    assert found.collectives["all-reduce"] == (16, 16 * 8 * 4 * 4)
    assert found.collectives["all-gather"][0] == 1


def test_a_missing_estimate_counts_nothing():
    """The compiler writes the largest number where it has none."""
    assert costs(TPU.replace('"estimated_cycles":"7"', f'"estimated_cycles":"{2**63 - 1}"')).cycles == 16 * 30


def test_an_asynchronous_collective_counts_its_result():
    assert costs(TPU).collectives["all-gather"] == (1, 8 * 4 * 2)


# As libtpu writes it for two slices.
SLICES = """ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %send = (f32[8,4]{1,0:T(8,128)}, u32[], token[]) send(%x, %after-all), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv = (f32[8,4]{1,0:T(8,128)}, u32[], token[]) recv(%after-all), channel_id=1, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_target="{1,2}x{0:3}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done = token[] send-done(%send), channel_id=2, is_host_transfer=true
  %recv-done = (f32[8,4]{1,0:T(8,128)}, token[]) recv-done(%recv), channel_id=1, is_host_transfer=true
  ROOT %out = f32[8,4]{1,0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add
}
"""  # noqa: E501


def test_what_goes_between_slices_is_counted_apart():
    assert costs(SLICES).collectives == {"dcn-all-reduce": (1, 8 * 4 * 4), "all-reduce": (1, 8 * 4 * 4)}


@pytest.fixture
def mesh():
    return Mesh(np.array(jax.devices()[:4]), ("data",), axis_types=(AxisType.Auto,))


def compiled(mesh, function, spec, *shape):
    argument = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))
    result = NamedSharding(mesh, PartitionSpec())
    return jax.jit(function, out_shardings=result).lower(argument).compile().as_text()


def test_a_sum_over_devices(mesh):
    text = compiled(mesh, lambda x: x.sum(0), PartitionSpec("data"), 8, 100)
    assert costs(text).collectives == {"all-reduce": (1, 400)}


def test_a_gather_in_a_loop(mesh):
    def function(x):
        return lax.fori_loop(0, 5, lambda i, total: total + jnp.cos(x * total.sum()).sum(0), jnp.zeros(100))

    found = costs(compiled(mesh, function, PartitionSpec("data"), 8, 100)).collectives
    assert {kind: count for kind, (count, _) in found.items()} == {"all-reduce": 5}
