import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from proofs.toy import toy_config
from tvt_jax.data.pipeline import batch_shapes
from tvt_jax.train import plan
from tvt_jax.train.chips import Chip, chip_of
from tvt_jax.train.config import load_config
from tvt_jax.train.flops import count_flops
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh
from tvt_jax.train.topology import topology_devices

ROOT = Path(__file__).parents[2]

needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs jax[tpu]")


def test_the_local_devices(capsys):
    """Shapes are enough: there are no images and no models."""
    config = toy_config(Path("nowhere"), fsdp_shards=2)
    assert plan.run(config, "local", find_batch=False, quick=False, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["chips"], found["batch"], found["fits"]) == (4, 4, True)
    # Two products of 3 x 64 numbers, forward and backward; the input of the first needs no gradient.
    pixels = 4 * 16 * 16
    assert found["flops"] == 5 * 2 * pixels * 3 * 64 / 4
    assert found["compiled_flops"] >= found["flops"]
    assert 0 < found["arguments"] <= found["peak"]


@pytest.mark.parametrize(
    ("most", "an_image", "tried", "found"),
    [
        (11, 1.0, [1, 2, 4, 8, 16, 12, 10, 11], 11),
        (20, 1.2, [1, 2, 4, 8, 16, 12, 10, 11], 11),  # the sixth leaves no room
        (8, 0.0, [1, 2, 4, 8, 16, 12, 10, 9], 8),
        (1, 1.0, [1, 2], 1),
        (1, 16.0, [1, 2], 1),  # not even the first leaves room, but fits
        (0, 1.0, [1], 0),
    ],
)
def test_the_largest_batch_that_fits(
    monkeypatch, capsys, most: int, an_image: float, tried: list[int], found: int
) -> None:
    """In whole images a chip: 16 GiB and room for fast kernels, of which the state takes two."""

    def pretend(config, topology, devices, quick):
        assert quick
        images = config.data.batch // 4
        peak = (2 + an_image * images) * 2**30
        return plan.Plan(topology=topology, chips=4, batch=config.data.batch, fits=images <= most, peak=peak)

    monkeypatch.setattr(plan, "make_plan", pretend)
    monkeypatch.setattr(plan, "chip_of", lambda _: Chip(18.0, 1e12, 1e9))
    largest = plan.largest(toy_config(Path("nowhere")), "local", jax.devices()[:4])
    assert (largest.batch, largest.fits) == (4 * max(found, 1), found > 0)
    assert [int(line.split()[0]) for line in capsys.readouterr().err.splitlines()] == tried


def test_a_batch_found_quickly_is_confirmed_or_made_smaller(monkeypatch, capsys):
    """Quickly eleven images a chip fit, in truth nine."""

    def pretend(config, topology, devices, quick=False):
        batch = config.data.batch
        most = 11 if quick else 9
        return plan.Plan(topology=topology, chips=4, batch=batch, fits=batch <= 4 * most, peak=float(batch))

    monkeypatch.setattr(plan, "make_plan", pretend)
    monkeypatch.setattr(plan, "chip_of", lambda _: Chip(16.0, 1e12, 1e9))
    for quick, images in ((True, 11), (False, 9)):
        assert plan.run(toy_config(Path("nowhere")), "local", find_batch=True, quick=quick, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["batch"] == 4 * images


def test_memory_that_is_not_known_has_no_largest_batch():
    with pytest.raises(ValueError, match="how much memory has a cpu"):
        plan.largest(toy_config(Path("nowhere")), "local", jax.devices()[:4])


def test_what_does_not_fit_says_what_to_try(monkeypatch, capsys):
    verdict = plan.Plan(topology="v5e:2x2", chips=4, batch=64, fits=False, reason="Used 20.3G of 15.75G hbm")
    monkeypatch.setattr(plan, "make_plan", lambda *_: verdict)
    assert plan.run(toy_config(Path("nowhere")), "local", find_batch=False, quick=False, as_json=False) == 1
    assert "does not fit: Used 20.3G of 15.75G hbm; try more fsdp_shards" in capsys.readouterr().out


def test_the_compiler_s_reason():
    message = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    message += "Used 1.17T of 15.75G hbm. Exceeded hbm capacity by 1.15T.\n\nTotal hbm usage"
    assert plan._reason(message, "v5e:2x2") == "Used 1.17T of 15.75G hbm"
    message = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (23.88G) "
    message += "exceeds available HBM (15.75G)."
    assert plan._reason(message, "v5e:2x2") == "temporaries need 23.88G of 15.75G hbm"


def test_a_kernel_that_is_too_large_is_named():
    """Not a matter of the batch, so nothing smaller is tried."""
    message = "RESOURCE_EXHAUSTED: E1001: CompileTimeScopedVmemOom:\nRan out of memory in memory space vmem while "
    message += "allocating on stack for %splash_mha_dkv.1 = (f32[2,64]{1,0}) custom-call(%copy.2),\nmetadata={}. "
    message += "Scoped allocation with size 19.00M and limit 16.00M exceeded scoped vmem limit by 3.00M."
    with pytest.raises(ValueError, match=r"v5e:2x2: splash_mha_dkv.1 needs 19.00M of 16.00M of vector memory"):
        plan._reason(message, "v5e:2x2")


MICRO = """
from proofs import micro
from tvt_jax.train.config import TrainConfig

def config() -> TrainConfig:
    from dataclasses import replace
    from pathlib import Path
    made = micro.micro_config("adapt", Path("nowhere"), data_shards=2, fsdp_shards=2, fsdp_min_mib=0.0)
    return replace(made, data=replace(made.data, batch=4))
"""


@needs_libtpu
@pytest.mark.slow
def test_a_topology_that_is_not_there(tmp_path):
    """The adapt stage for four v5e chips, its parameters split over two and two of them."""
    (tmp_path / "config.py").write_text(MICRO)
    command = [sys.executable, "train.py", f"--config={tmp_path}/config.py", "--plan=v5e:2x2", "--json"]
    settings = os.environ | {"PYTHONPATH": ".", "XDG_CACHE_HOME": str(tmp_path)}
    found = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert not (tmp_path / "tvt_jax").exists()
    result = json.loads(found.stdout)
    assert result["chips"] == 4 and result["fits"] and result["seconds"] > 0
    assert {"all-gather", "all-reduce"} <= result["collectives"].keys()


@needs_libtpu
@pytest.mark.slow
def test_slices_that_are_not_there(tmp_path):
    """What goes from slice to slice are the sums of a chip's part of the gradients, and of the loss."""
    toy = "from pathlib import Path\nfrom proofs.toy import toy_config\n"
    toy += "def config(): return toy_config(Path('nowhere'), evaluation=None, fsdp_shards=2, fsdp_min_mib=0.0)\n"
    (tmp_path / "config.py").write_text(toy)
    command = [sys.executable, "train.py", f"--config={tmp_path}/config.py", "--plan=2xv5e:2x2", "--json"]
    command += ["--config.data.batch=8"]
    settings = os.environ | {"PYTHONPATH": ".", "XDG_CACHE_HOME": str(tmp_path)}
    found = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["chips"] == 8 and result["fits"]
    count, size = result["collectives"]["dcn-all-reduce"]
    # Two kernels of 3 x 64 numbers, split over two chips. Arrays are padded to tiles of 8 x 128.
    assert count >= 1 and 2 * 3 * 64 * 4 / 2 <= size <= 3 * 8 * 128 * 4
    assert {"all-gather", "all-reduce", "collective-permute"} & result["collectives"].keys()


@needs_libtpu
@pytest.mark.parametrize(
    ("topology", "rows"), [("2xv5e:2x2", 4), ("3xv4:2x2x1", 6), ("2xv5e:4x4", 16), ("2xv5p:4x4x4", 64)]
)
def test_each_slice_holds_the_parameters(topology, rows, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    devices = topology_devices(topology)
    mesh = make_mesh(0, 2, devices)
    assert mesh.devices.shape == (rows, 2)
    assert all(len({device.slice_index for device in row}) == 1 for row in mesh.devices)
    assert {device.id for device in mesh.devices.flat} == {device.id for device in devices}


@needs_libtpu
@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_each_chip_is_one_device(topology, monkeypatch):
    """Of a v4, too, which has two cores; jax makes a mesh of whole chips only."""
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    devices = topology_devices(topology)
    assert make_mesh(0, 2, devices).devices.shape == (2, 2)
    assert chip_of(devices[0]).clock


@needs_libtpu
def test_programs_for_chips_that_are_not_there_are_not_kept(tmp_path):
    """In a process that has kept programs before, for itself; what it keeps of them can't be read again."""
    compile_both = """
import jax, sys
from tvt_jax.train.topology import topology_devices
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
jax.jit(lambda x: x + 1)(1.0)
sharding = jax.sharding.SingleDeviceSharding(topology_devices("v5e:2x2")[0])
def for_a_chip(x):
    return x * 2
jax.jit(for_a_chip).lower(jax.ShapeDtypeStruct((8, 128), "float32", sharding=sharding)).compile()
"""
    settings = os.environ | {"PYTHONPATH": ".", "TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu"}
    for _ in range(2):
        command = [sys.executable, "-W", "error::UserWarning", "-c", compile_both, str(tmp_path)]
        found = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        kept = [path.name for path in tmp_path.iterdir() if path.name.endswith("-cache")]
        assert kept and not any("for_a_chip" in name for name in kept)


@needs_libtpu
@pytest.mark.parametrize("topology", ["v5e:3x5", "2xv5e:3x5", "axv5e:2x2", "4x4"])
def test_a_topology_that_nobody_makes(topology, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    with pytest.raises(ValueError, match=f"--plan={topology}: .*names are like v5e:4x4"):
        topology_devices(topology)


def test_full_size_configs_plan_without_any_file():
    """Shapes of all frozen parameters of the three stages at full size, held in bfloat16."""
    for name, expected in (("decoder", 84e6), ("encoder", 99e6), ("adapt", 882e6)):
        stage = load_config(ROOT / "configs" / "sd21" / f"{name}.py").stage
        held = stage.hold({key: part for key, part in stage.abstract().items() if key != "perceptual"})
        leaves = jax.tree.leaves(held)
        assert sum(leaf.size for leaf in leaves) == pytest.approx(expected, rel=0.01)
        assert sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) == pytest.approx(2 * expected, rel=0.01)


@pytest.mark.parametrize(("name", "expected"), [("decoder", 2.42), ("encoder", 1.58)])
def test_full_size_steps_can_be_traced(name, expected):
    """As configured, in bfloat16; what multiplies is counted once, as a TPU's compiler finds it (T FLOPs an image).

    It found 2.49 and 1.62 before doubled images were convolved in quarters, which multiplies less.
    """
    config = load_config(ROOT / "configs" / "sd21" / f"{name}.py")
    mesh = make_mesh(config.data_shards, config.fsdp_shards, jax.devices())
    program = Program(config, mesh, config.stage.abstract())
    traced = program.trace_step(program.abstract_batch(batch_shapes(config.data)))
    counted = sum(count_flops(traced.jaxpr.jaxpr)) / config.data.batch
    assert counted == pytest.approx(expected * 1e12, rel=0.02)
