"""Runs on several devices against those on one, and what the command makes of a difference."""

import sys

import numpy as np
import pytest

from benchmarks import devices, report
from benchmarks.devices import Options, Topology


@pytest.mark.slow
def test_eight_devices_and_two_processes_train_what_one_trains(tmp_path):
    """The VAE stage has the discriminator, from its third step on, whose norms are over the whole batch."""
    topologies = (Topology(data=4, fsdp=2), Topology(data=2, processes=2))
    figures = devices.measure(Options(stages=("vae",), steps=4, out=tmp_path), topologies)
    assert figures["vae"].keys() == {"4 × 2", "2 × 1, 2 processes"}
    # Sums of ten thousands of float32 in other orders: seen are 2e-6 and 3e-6, in a length and in KL.
    assert all(0 < difference < devices.LIMIT for difference in figures["vae"].values())


def test_differences_are_relative_to_each_metrics_largest_value():
    expected = {"kl": np.array([100.0, 50.0]), "generator": np.array([-0.5, 0.0]), "vsd": np.zeros(2)}
    other = {**expected, "kl": np.array([100.0, 51.0]), "generator": np.array([-0.5, 1e-3])}
    assert devices.largest_difference(other, expected) == pytest.approx(1e-2)
    assert devices.largest_difference(expected, expected) == 0
    assert np.isnan(devices.largest_difference({**expected, "kl": np.array([np.nan, 50.0])}, expected))


def test_every_process_has_its_command(tmp_path):
    alone, first, second = (
        command
        for topology in (devices.ONE, Topology(fsdp=4, processes=2))
        for command in devices.commands(20, topology, tmp_path)
    )
    assert not any(argument.startswith("--process") for argument in alone)
    assert {*first} ^ {*second} == {"--process=0", "--process=1"}
    assert "--config.fsdp_shards=4" in first


@pytest.mark.parametrize(("difference", "status"), [(9e-6, None), (2e-5, "2.0e-05, is above 1e-05"), (np.nan, "nan")])
def test_a_difference_above_the_limit_is_an_error(difference, status, tmp_path, monkeypatch, capsys):
    figures = {"vae": {"2 × 1": 1e-7, "1 × 2": difference}}
    monkeypatch.setattr(devices, "measure", lambda options: figures)
    monkeypatch.setattr(sys, "argv", ["devices", f"--out={tmp_path}"])
    if status:
        with pytest.raises(SystemExit, match=status):
            report.run_as_command(devices.main)
    else:
        report.run_as_command(devices.main)
    assert "| 2 × 1 | 1.0e-07 |" in capsys.readouterr().out
    assert (tmp_path / "devices.md").is_file()


def test_a_stage_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="no stage is called gan: choose from vae, decoder"):
        devices.measure(Options(stages=("gan",), out=tmp_path))
