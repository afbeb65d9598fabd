"""Two processes of two devices each, as one run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from proofs.devices import free_port
from tvt_jax.model_folder import read_model
from tvt_jax.train import command
from tvt_jax.train.checkpoint import newest

ROOT = Path(__file__).parents[2]


def run(workdir, images, devices, *arguments):
    settings = {
        "TOY_IMAGES": str(images),
        "XDG_CACHE_HOME": str(workdir.parent / f"cache_{len(arguments)}"),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    command = [sys.executable, "train.py", "--config=proofs/toy.py", f"--workdir={workdir}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors


def start(workdir, images, *arguments, others=None):
    """Two processes; the second one finds its images in `others`, if that is given."""
    address = f"localhost:{free_port()}"
    return [
        run(workdir, folder, 2, f"--coordinator={address}", "--processes=2", f"--process={i}", *arguments)
        for i, folder in enumerate((images, others or images))
    ]


def together(workdir, images, *arguments):
    finish(*start(workdir, images, *arguments))


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["kind"] == "train"]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(images, tmp_path):
    """And one goes on where two were, and two where one was: parameters are split over all four devices."""
    shards = ("--config.data_shards=1", "--config.fsdp_shards=4", "--config.log_every=1")
    finish(run(tmp_path / "one", images, 1, "--config.log_every=1"))
    together(tmp_path / "two", images, *shards)
    together(tmp_path / "changing", images, *shards, "--config.steps=2")
    finish(run(tmp_path / "changing", images, 1, "--config.log_every=1", "--config.steps=4"))
    together(tmp_path / "changing", images, *shards)
    expected = losses(tmp_path / "one")
    assert len(expected) == 6
    for name in ("two", "changing"):
        # Float32 sums of other orders.
        np.testing.assert_allclose(losses(tmp_path / name), expected, rtol=1e-6)
    kernels = [read_model(tmp_path / name / "model").vae["encoder"]["quant_conv"]["kernel"] for name in ("one", "two")]
    np.testing.assert_allclose(kernels[1], kernels[0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "number"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (0, signal.SIGSTOP), (1, signal.SIGSTOP)]
)
def test_when_a_process_dies_or_freezes_the_other_ends(process, number, images, tmp_path):
    """A dead process closes its connections; of a frozen one, nothing but its heartbeat is missed."""
    processes = start(tmp_path / "w", images, "--config.steps=1000000", "--config.fsdp_shards=4")
    other = processes[1 - process]
    try:
        while newest(tmp_path / "w" / "checkpoints") is None:
            assert [each.poll() for each in processes] == [None, None]
            time.sleep(0.05)
        processes[process].send_signal(number)
        assert_ends(other)
    finally:
        end(processes)


@pytest.mark.slow
def test_when_a_process_has_an_error_the_other_ends(images, tmp_path):
    (tmp_path / "empty").mkdir()
    processes = start(tmp_path / "w", images, others=tmp_path / "empty")
    try:
        _, error = processes[1].communicate(timeout=100)
        assert processes[1].returncode == 1
        assert "error: no images" in error
        assert_ends(processes[0])
    finally:
        end(processes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "shards", "told"),
    [
        ((2, 2), "--config.data_shards=2", "2 devices of process 0 but 0 of process 1"),
        ((2, 1), "--config.data_shards=0", "2 devices of process 0 but 1 of process 1"),
    ],
)
def test_processes_with_unequal_parts_end_in_a_sentence(counts, shards, told, images, tmp_path):
    address = f"localhost:{free_port()}"
    processes = [
        run(tmp_path / "w", images, count, f"--coordinator={address}", "--processes=2", f"--process={i}", shards)
        for i, count in enumerate(counts)
    ]
    try:
        # The first, which the others join by, says it in any case; one that is still joining then says that it is gone.
        first, *_ = errors = [process.communicate(timeout=100)[1] for process in processes]
        assert [process.returncode for process in processes] == [1] * len(errors)
        assert f"error: a mesh of data_shards={shards[-1]} x fsdp_shards=1 has {told}, and each must" in first
    finally:
        end(processes)


@pytest.mark.slow
def test_a_workdir_that_the_processes_do_not_share_is_told_within_seconds(images, tmp_path):
    """Each has a folder of its own, as on the disks of two hosts; from when both have made it, it takes ten seconds."""
    address, workdirs = f"localhost:{free_port()}", [tmp_path / "0" / "w", tmp_path / "1" / "w"]
    join = (f"--coordinator={address}", "--processes=2")
    processes = [run(workdir, images, 1, *join, f"--process={i}") for i, workdir in enumerate(workdirs)]
    try:
        while not all(workdir.exists() for workdir in workdirs):
            assert [each.poll() for each in processes] == [None, None]
            time.sleep(0.05)
        begin = time.monotonic()
        errors = [process.communicate(timeout=60)[1] for process in processes]
        assert time.monotonic() - begin < 10
    finally:
        end(processes)
    assert [process.returncode for process in processes] == [1, 1]
    for i, error in enumerate(errors):
        sentence = f"error: the workdir {workdirs[i]} is not the same folder on all hosts: process 1 does not see"
        assert sentence in error
    assert not [path for workdir in workdirs for path in workdir.iterdir()]


def assert_ends(process):
    """Within the minute of the heartbeat and some more: by jax, or by the error of a step, whichever is first."""
    _, error = process.communicate(timeout=90)
    message = {-signal.SIGABRT: "another task died", 1: "error: "}[process.returncode]
    assert message in error


def end(processes):
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=localhost:1"], "needs --processes=N and --process=I"),
        (["--coordinator=localhost:1", "--processes=2", "--process=2"], "I from 0 to N - 1, not 2 and 2"),
        (["--processes=2"], "--processes and --process go with --coordinator=HOST:PORT"),
    ],
)
def test_arguments_that_do_not_belong_together(arguments, message, images, monkeypatch, capsys):
    monkeypatch.setenv("TOY_IMAGES", str(images))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["train.py", "--config=proofs/toy.py", "--workdir=w", *arguments])
    assert command.main() == 1
    assert message in capsys.readouterr().err
