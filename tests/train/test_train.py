"""train.py as it is run: its exit status, and kill -9."""

import errno
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from proofs import toy
from tvt_jax.train import command, lock, loop, workdir
from tvt_jax.train.checkpoint import newest, restore
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh

ROOT = Path(__file__).parents[2]


def start(workdir, images, steps):
    """Starts a run in a process of its own, with one device."""
    settings = {"TOY_IMAGES": str(images), "XDG_CACHE_HOME": str(workdir.parent), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "train.py", "--config=proofs/toy.py", f"--workdir={workdir}"]
    command += [f"--config.steps={steps}", "--config.save_every=7", "--config.evaluate_every=1000"]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | settings)


def final_state(workdir, images):
    config = toy.toy_config(images, data_shards=1)
    program = Program(config, make_mesh(1, 1), config.stage.load())
    return jax.device_get(restore(workdir / "checkpoints", program.state)[0])


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bits(images, tmp_path):
    assert start(tmp_path / "straight", images, steps=100).wait() == 0
    moment = random.Random(0)
    for _ in range(4):
        before = newest(tmp_path / "killed" / "checkpoints")
        process = start(tmp_path / "killed", images, steps=100)
        while process.poll() is None and newest(tmp_path / "killed" / "checkpoints") == before:
            time.sleep(0.01)
        time.sleep(0.3 * moment.random())
        process.kill()
        process.wait()
    assert start(tmp_path / "killed", images, steps=100).wait() == 0
    states = [final_state(tmp_path / name, images) for name in ("straight", "killed")]
    jax.tree.map(np.testing.assert_array_equal, *states)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("straight", "killed")]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=none.py", "--workdir=w"], "error: no configuration file none.py"),
        (["--config=proofs/toy.py", "--workdir=w", "--config.step=1"], "error: --config.step: TrainConfig has no"),
        (["--config=proofs/toy.py", "--workdir=w", "--steps=1"], "error: unknown argument '--steps=1'"),
        (
            ["--config=proofs/toy.py", "--workdir=w", "--json"],
            "error: --find-batch, --quick, --json and --save go with --plan",
        ),
        (["--config=proofs/toy.py", "--workdir=w", "--profile=9"], "error: --profile=9 is not of the form"),
        (["--config=proofs/toy.py", "--workdir=w", "--export"], "error: no checkpoint in w/checkpoints"),
    ],
)
def test_an_error_is_one_line_and_status_1(arguments, message, images, monkeypatch, capsys):
    monkeypatch.setenv("TOY_IMAGES", str(images))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert command.main() == 1
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("workdir", "reason"), [("file/w", "Not a directory"), ("file", "File exists"), ("/proc/w", "No such file")]
)
def test_a_workdir_that_cannot_be_made(workdir, reason, images, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    error = error_of(tmp_path / workdir, images, monkeypatch, capsys)
    assert error.startswith(f"error: the workdir {tmp_path / workdir} cannot be written: {reason}")
    assert error.endswith("; choose another by --workdir\n")


def test_a_workdir_that_cannot_be_written(images, tmp_path, monkeypatch, capsys):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(workdir.tempfile, "NamedTemporaryFile", refuse)
    error = error_of(tmp_path, images, monkeypatch, capsys)
    assert error.startswith(f"error: the workdir {tmp_path} cannot be written: Read-only file system")


def test_a_workdir_without_room_for_a_checkpoint(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workdir.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**10))
    error = error_of(tmp_path / "made", images, monkeypatch, capsys)
    assert "has 0.0 MiB left, and 3 checkpoints take 0.0: make room" in error
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["run.lock"]


def test_what_a_failed_save_left_is_removed_before_room_is_asked_for(images, tmp_path, monkeypatch):
    leftover = tmp_path / "checkpoints" / "4.orbax-checkpoint-tmp"
    leftover.mkdir(parents=True)
    free = lambda _: SimpleNamespace(free=0 if leftover.exists() else 2**30)  # noqa: E731
    monkeypatch.setattr(workdir.shutil, "disk_usage", free)
    assert loop.train(toy.toy_config(images, steps=1), tmp_path) == 0


def test_a_damaged_config_names_itself_and_the_way_out(images, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text('{"a": ')
    error = error_of(tmp_path, images, monkeypatch, capsys)
    assert error.startswith(f"error: {tmp_path}/config.json is damaged (")
    assert "remove it, and the run goes on" in error


def test_a_second_run_in_a_workdir_is_refused_and_names_the_first(images, tmp_path, monkeypatch, capsys):
    with lock.locked(tmp_path):
        error = error_of(tmp_path, images, monkeypatch, capsys)
    assert f"is another run's (host {socket.gethostname()}, process {os.getpid()}, since 2" in error
    with lock.locked(tmp_path):  # what is left of an ended run holds nothing
        pass


def error_of(path, images, monkeypatch, capsys):
    """What is said, in one line, before anything is compiled."""
    monkeypatch.setenv("TOY_IMAGES", str(images))
    monkeypatch.setattr(Program, "init", lambda *_: pytest.fail("compiled"))
    monkeypatch.setattr(sys, "argv", ["train.py", f"--config={ROOT}/proofs/toy.py", f"--workdir={path}"])
    assert command.main() == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_status_0_when_trained_and_143_when_terminated(images, monkeypatch, tmp_path):
    arguments = ["train.py", f"--config={ROOT}/proofs/toy.py", f"--workdir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setenv("TOY_IMAGES", str(images))
    monkeypatch.setattr(command, "train", lambda *_: 0)
    assert command.main() == 0
    monkeypatch.setattr(command, "train", lambda *_: 15)
    assert command.main() == 143
