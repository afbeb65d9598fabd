"""Plans for GPUs that are not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tvt_jax.models.attend import attend
from tvt_jax.train import topology
from tvt_jax.train.chips import GIB, GPUS, chip_of
from tvt_jax.train.flops import count_flops
from tvt_jax.train.topology import topology_devices

ROOT = Path(__file__).parents[2]
needs_cuda = pytest.mark.skipif(not topology._has_cuda(), reason="needs jax[cuda12]")
MICRO = """
from dataclasses import replace
from pathlib import Path
from proofs import micro
from proofs.toy import toy_config

def config(name):
    if name == "toy":
        return toy_config(Path("nowhere"), evaluation=None, fsdp_shards=2, fsdp_min_mib=0.0)
    made = micro.micro_config(name, Path("nowhere"), data_shards=0)
    return replace(made, data=replace(made.data, batch=2))
"""


def plan(tmp_path, name, *words):
    """Plans in a process of its own, which finds no GPU and no TPU; its exit status and what it prints."""
    (tmp_path / "config.py").write_text(MICRO)
    command = [sys.executable, "train.py", f"--config={tmp_path}/config.py:{name}", *words]
    settings = os.environ | {"PYTHONPATH": ".", "XDG_CACHE_HOME": str(tmp_path)}
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["h100:8", "a100:4"])
def test_without_the_compiler_for_gpus_it_says_what_to_install(name, monkeypatch):
    monkeypatch.setattr(topology, "_has_cuda", lambda: False)
    with pytest.raises(ValueError, match=rf"^--plan={name} needs .*not installed: pip install 'tvt-jax\[cuda\]' \("):
        topology_devices(name)


@needs_cuda
def test_the_names_of_gpus(tmp_path):
    """What a plan says when none is there, and what a name means."""
    for name, count, kind in (("h100:1", 1, "H100"), ("a100:4", 4, "A100"), ("h200:16", 16, "H200")):
        devices = topology_devices(name)
        assert len(devices) == count and kind in devices[0].device_kind
        assert chip_of(devices[0]) == GPUS[devices[0].device_kind]
    assert {device.process_index for device in devices} == {0, 1}
    with pytest.raises(ValueError, match="--plan=h100:9: 9 GPUs are not whole hosts of 8"):
        topology_devices("h100:9")


@needs_cuda
def test_the_toy_on_eight(tmp_path):
    """In pairs that share the parameters: FLOPs are the program's, collectives are told, and neither time nor fit."""
    found = plan(tmp_path, "toy", "--plan=h100:8", "--json", "--config.data.batch=8")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["flops"] == 5 * 2 * 16 * 16 * 3 * 64  # one image a device; see the plan for local devices
    assert result["chips"] == 8 and result["at_least"] and result["fits"]
    assert (result["seconds"], result["compiled_flops"], result["utilisation"]) == (0, 0, 0)
    assert result["memory"] == pytest.approx(79.1 * GIB)
    assert result["collectives"]["all-reduce"][0] >= 1 and result["collectives"]["all-gather"][0] >= 1
    text = plan(tmp_path, "toy", "--plan=a100:2", "--config.data.batch=8").stdout
    assert "at least" in text and text.endswith("fits, unless the libraries' kernels need the rest\n")
    assert "predicted" not in text and "as compiled" not in text


@needs_cuda
@pytest.mark.parametrize("words", [["--find-batch"], ["--save=step"]])
def test_what_cannot_be_told_without_the_card(tmp_path, words):
    found = plan(tmp_path, "toy", "--plan=h100:8", *words)
    assert found.returncode == 1 and f"--plan=h100:8 with {words[0].partition('=')[0]}: " in found.stderr


@needs_cuda
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vae", "adapt"])
def test_stages_with_eight_channels(tmp_path, stage):
    found = plan(tmp_path, stage, "--plan=h100:2", "--json")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["fits"] and 0 < result["arguments"] < result["peak"] and result["flops"] > 0


@needs_cuda
def test_the_attention_of_cudnn_is_counted(monkeypatch):
    """Two products forwards and, scores made again, five backwards; it is compiled for the card."""
    device = topology_devices("h100:1")[0]
    mesh = jax.sharding.Mesh([device], "device")
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    part = jax.ShapeDtypeStruct((2, 2048, 5, 64), jnp.bfloat16, sharding=sharding)
    with jax.set_mesh(mesh):
        gradients = jax.grad(lambda *parts: attend(*parts).astype(jnp.float32).sum(), (0, 1, 2))
        traced = jax.jit(gradients).trace(part, part, part)
        assert count_flops(traced.jaxpr.jaxpr).kernels == 7 * 2 * 2 * 5 * 2048**2 * 64
        assert "fmhaSoftmax" in traced.lower().compile().as_text()
