"""Two processes of two devices each, as one run."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import train
from tvt_jax.model_folder import read_model

ROOT = Path(__file__).parents[2]


def run(workdir, images, devices, *arguments):
    settings = {
        "TOY_IMAGES": str(images),
        "XDG_CACHE_HOME": str(workdir.parent / f"cache_{len(arguments)}"),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    command = [sys.executable, "train.py", "--config=tests/train/toy.py", f"--workdir={workdir}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), errors


def together(workdir, images, *arguments):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    finish(
        *(
            run(workdir, images, 2, f"--coordinator={address}", "--processes=2", f"--process={i}", *arguments)
            for i in range(2)
        )
    )


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
    monkeypatch.setattr(sys, "argv", ["train.py", "--config=tests/train/toy.py", "--workdir=w", *arguments])
    assert train.main() == 1
    assert message in capsys.readouterr().err
