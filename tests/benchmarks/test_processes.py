"""Commands side by side."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import Task, run_all

ROOT = Path(__file__).parents[2]


def python(name, program, *words):
    return Task(name, (sys.executable, "-c", program, *map(str, words)))


def test_a_failure_is_named_and_the_others_go_on(tmp_path, capfd):
    fail = "import sys; print('first', file=sys.stderr); sys.exit('error: it diverged')"
    write = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    tasks = [python("bad", fail), *(python(str(i), write, tmp_path / str(i)) for i in range(3))]
    assert run_all(tasks, jobs=2) == ["bad: exit status 1: error: it diverged"]
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2"}
    assert "first" in capfd.readouterr().err


def test_each_of_several_has_a_device_of_its_own(tmp_path, monkeypatch):
    """And all at once: each waits for the others."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    meet = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / "_".join(os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "TPU_VISIBLE_CHIPS"))).touch()
while len(list(folder.iterdir())) < 2:
    time.sleep(0.01)
"""
    assert run_all([python(str(i), meet, tmp_path) for i in range(2)], jobs=2) == []
    assert {path.name for path in tmp_path.iterdir()} == {"5_0", "7_1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_they_end_when_it_is_ended(tmp_path, number):
    """By SIGTERM, so that a training run saves its state; and nothing new begins."""
    wait = """
import os, pathlib, signal, sys, time
path = pathlib.Path(sys.argv[1])
def save(*_):
    path.write_text("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
path.write_text(str(os.getpid()))
time.sleep(100)
"""
    tasks = [python(str(i), wait, tmp_path / str(i)) for i in range(3)]
    start = f"from benchmarks.processes import Task, run_all\nrun_all({tasks!r}, 2)"
    process = subprocess.Popen([sys.executable, "-c", start], cwd=ROOT)
    while sum(path.stat().st_size > 0 for path in tmp_path.iterdir()) < 2:
        time.sleep(0.02)
    children = [int(path.read_text()) for path in tmp_path.iterdir()]
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert [path.read_text() for path in tmp_path.iterdir()] == ["saved", "saved"]
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
