"""Runs on several devices against those on one, and what the command makes of a difference."""

import sys

import numpy as np
import pytest

from benchmarks import report
from proofs import devices
from proofs.devices import Options, Topology


@pytest.mark.slow
def test_eight_devices_and_two_processes_train_what_one_trains(tmp_path):
    """The VAE stage has the discriminator, from its third step on, whose norms are over the whole batch."""
    topologies = (Topology(data=4, fsdp=2), Topology(data=2, processes=2))
    figures = devices.measure(Options(stages=("vae",), steps=4, out=tmp_path), topologies)
    assert figures["vae"].keys() == {"4 × 2", "2 × 1, 2 processes"}
    for what, limit in devices.LIMITS.items():  # sums of ten thousands of float32 in other orders
        assert all(0 < found[what] < limit for found in figures["vae"].values())


def test_differences_are_relative_to_each_metrics_largest_value():
    expected = {"kl": np.array([100.0, 50.0]), "vsd": np.zeros(2), "gradient_norm/vae": np.array([2.0, 1.0])}
    other = {**expected, "kl": np.array([100.0, 51.0])}
    assert devices.differences(other, expected) == {"losses": pytest.approx(1e-2), "lengths": 0.0}
    longer = {**expected, "gradient_norm/vae": np.array([2.0, 1.1])}
    assert devices.differences(longer, expected) == {"losses": 0.0, "lengths": pytest.approx(5e-2)}
    assert np.isnan(devices.differences({**expected, "kl": np.array([np.nan, 50.0])}, expected)["losses"])


def test_a_run_that_was_cut_off_begins_anew(tmp_path, monkeypatch):
    workdir = tmp_path / "runs" / "vae"
    workdir.mkdir(parents=True)
    (workdir / "metrics.jsonl").write_text('{"step": 1, "kl": 7.0}\n')

    def pretend(*_):
        (workdir / "model").mkdir(parents=True)
        with open(workdir / "metrics.jsonl", "a") as log:
            log.write('{"step": 1, "kl": 3.0}\n')

    monkeypatch.setattr(devices, "run", pretend)
    assert devices.train(Options(steps=1, out=tmp_path), "vae", devices.ONE)["kl"] == [3.0]


def test_every_process_has_its_command(tmp_path):
    alone, first, second = (
        command
        for topology in (devices.ONE, Topology(fsdp=4, processes=2))
        for command in devices.commands(20, topology, tmp_path)
    )
    assert not any(argument.startswith("--process") for argument in alone)
    assert {*first} ^ {*second} == {"--process=0", "--process=1"}
    assert "--config.fsdp_shards=4" in first


@pytest.mark.parametrize(
    ("losses", "lengths", "status"),
    [
        (9e-6, 9e-3, None),
        (2e-5, 0.0, "of losses, 2.0e-05, is above 1e-05"),
        (0.0, 2e-2, "of lengths, 2.0e-02, is above 1e-02"),
        (np.nan, 0.0, "nan"),
    ],
)
def test_a_difference_above_its_limit_is_an_error(losses, lengths, status, tmp_path, monkeypatch, capsys):
    figures = {"vae": {"2 × 1": {"losses": 1e-7, "lengths": 2e-7}, "1 × 2": {"losses": losses, "lengths": lengths}}}
    monkeypatch.setattr(devices, "measure", lambda options: figures)
    monkeypatch.setattr(sys, "argv", ["devices", f"--out={tmp_path}"])
    if status:
        with pytest.raises(SystemExit, match=status):
            report.run_as_command(devices.main)
    else:
        report.run_as_command(devices.main)
    assert "| 2 × 1 | 1.0e-07 (2e-07) |" in capsys.readouterr().out
    assert (tmp_path / "devices.md").is_file()


def test_a_stage_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="no stage is called gan: choose from vae, decoder"):
        devices.measure(Options(stages=("gan",), out=tmp_path))
