"""A step that one process compiles, and another takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from proofs import toy
from tvt_jax import compilation_cache
from tvt_jax.data.pipeline import batch_shapes
from tvt_jax.train import command, loop, plan, saved_step
from tvt_jax.train.checkpoint import restore
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh

ROOT = Path(__file__).parents[2]


def lowered(config):
    program = Program(config, make_mesh(config.data_shards, config.fsdp_shards), config.stage.abstract())
    return program.trace_step(program.abstract_batch(batch_shapes(config.data))).lower(), program.mesh


@pytest.fixture
def saved(images, tmp_path, monkeypatch):
    """The toy's step for two by two devices, with the cache of the other tests left alone."""
    monkeypatch.setattr(compilation_cache, "disable", lambda: jax.config.update("jax_enable_compilation_cache", False))
    config = toy.toy_config(images, fsdp_shards=2, data_shards=2)
    try:
        assert plan.run(config, "local", False, False, as_json=True, save=tmp_path / "step") == 0
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    return tmp_path / "step"


def run(config, workdir, step=None):
    """Trains; the last state, on the host."""
    assert loop.train(config, workdir, saved_step=step) == 0
    program = Program(config, make_mesh(config.data_shards, config.fsdp_shards), config.stage.load())
    return jax.device_get(restore(workdir / "checkpoints", program.state)[0])


def test_the_saved_step_trains_to_the_same_bits(images, saved, tmp_path, capsys):
    """On four devices, the parameters split over two."""
    config = toy.toy_config(images, fsdp_shards=2, data_shards=2)
    expected, found = run(config, tmp_path / "compiled"), run(config, tmp_path / "loaded", saved)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert f"read the compiled step from {saved} in" in capsys.readouterr().out


def test_what_is_free_may_change(images, saved):
    """What the step does not depend on: its cadence, its seed, and where things lie."""
    config = toy.toy_config(Path("elsewhere"), fsdp_shards=2, data_shards=2, steps=9, seed=3, evaluation=None)
    assert saved_step.load(saved, *lowered(config))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stage": toy.ToyStage(learning_rate=1e-3)}, "it is of another program, so the configuration or the code"),
        ({"fsdp_shards": 1}, "its devices is '2 data x 2 fsdp of "),
        ({"data_shards": 1}, "its devices is '2 data x 2 fsdp of "),
    ],
)
def test_another_configuration_or_other_devices_compile(images, saved, tmp_path, changes, reason, capsys):
    config = toy.toy_config(images, **{"fsdp_shards": 2, "data_shards": 2, **changes})
    assert loop.train(config, tmp_path / "w", saved_step=saved) == 0
    told = capsys.readouterr()
    assert "compiled the step in" in told.out
    assert f"warning: the saved step {saved} is not used: " in told.err and reason in told.err


def test_another_jax_compiles(images, saved, monkeypatch, capsys):
    monkeypatch.setattr(saved_step.importlib.metadata, "version", lambda name: "0.9")
    assert saved_step.load(saved, *lowered(toy.toy_config(images, fsdp_shards=2, data_shards=2))) is None
    assert f"its compiler is 'jax {jax.__version__}, " in capsys.readouterr().err


def test_other_settings_of_the_compiler_compile(images, saved, monkeypatch, capsys):
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--x=1")
    assert saved_step.load(saved, *lowered(toy.toy_config(images, fsdp_shards=2, data_shards=2))) is None
    assert "its settings is '', here it is 'LIBTPU_INIT_ARGS=--x=1'" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: whole[:40], lambda _: b"", bytes.upper])
def test_a_damaged_file_compiles(images, saved, damage, capsys):
    saved.write_bytes(damage(saved.read_bytes()))
    assert saved_step.load(saved, *lowered(toy.toy_config(images, fsdp_shards=2, data_shards=2))) is None
    assert capsys.readouterr().err.startswith(f"warning: the saved step {saved} is not used: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workdir=w", "--saved-step=none"], "--saved-step=none: there is no such file; --plan=TOPOLOGY --save=FILE"),
        (["--plan=local", "--saved-step=none"], "--saved-step goes with training"),
        (["--plan=local", "--save=s", "--quick"], "--save keeps the configuration's step, fully compiled"),
        (["--workdir=w", "--save=s"], "--find-batch, --quick, --json and --save go with --plan"),
        (["--plan=local", "--save=s3://b/s"], "s3://b/s is not supported here"),
    ],
)
def test_options_that_do_not_go_together(words, message, capsys, monkeypatch):
    monkeypatch.setattr(command.compilation_cache, "enable", lambda: None)
    assert command.main(["--config=proofs/toy.py", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_trains_with_the_step_of_another(chain_of_two):
    """The 4x decoder with eight channels: the first process plans, the second trains and compiles no step."""
    planned, loaded, compiled, cache = chain_of_two
    assert json.loads(planned)["fits"]
    assert not any(path.name.startswith("jit__step") for path in cache.iterdir())
    files = sorted(path.relative_to(loaded) for path in loaded.rglob("*") if path.is_file())
    assert files and files == sorted(path.relative_to(compiled) for path in compiled.rglob("*") if path.is_file())
    for file in files:
        if file.suffix == ".safetensors":
            assert (loaded / file).read_bytes() == (compiled / file).read_bytes()


@pytest.fixture
def chain_of_two(tmp_path):
    """What the plan printed, the models trained with the saved step and without, and the second process's cache."""
    from proofs import micro

    micro.write_images(tmp_path / "images")
    train(tmp_path, "first", "MICRO_STAGE=vae", f"--workdir={tmp_path}/runs/vae", "--config.steps=1")
    planned = train(tmp_path, "first", "MICRO_STAGE=decoder", "--plan=local", "--json", f"--save={tmp_path}/step")
    out = train(
        tmp_path, "second", "MICRO_STAGE=decoder", f"--workdir={tmp_path}/loaded", f"--saved-step={tmp_path}/step"
    )
    assert "read the compiled step from" in out
    train(tmp_path, "third", "MICRO_STAGE=decoder", f"--workdir={tmp_path}/compiled")
    return planned, tmp_path / "loaded" / "model", tmp_path / "compiled" / "model", tmp_path / "second"


def train(root, cache, stage, *words):
    """Runs train.py with a cache of its own, which keeps all that is compiled; what it prints."""
    (root / cache).mkdir(exist_ok=True)
    settings = {
        "MICRO_ROOT": str(root),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(root / cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg",
        **dict([stage.split("=")]),
    }
    command = [sys.executable, "train.py", "--config=proofs/micro.py", "--config.evaluation=None", *words]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
