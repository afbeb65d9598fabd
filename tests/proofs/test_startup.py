"""What proofs.startup reads from a run's output, and tells."""

import sys
from pathlib import Path

import pytest

from proofs import startup

RUN = "print('starting at step 0 of 1'); print('compiled the step in 12.5 s'); {}; import time; time.sleep(60)"


def test_a_start_ends_with_the_first_step():
    moments = startup.watch([sys.executable, "-uc", RUN.format("print('step 1/1  loss 2')")], Path("nowhere"))
    assert 0 < moments["state"] <= moments["compiled"] <= moments["step"] < 60
    assert moments["compiling"] == 12.5


def test_a_run_that_ends_before_its_first_step_is_an_error():
    with pytest.raises(ValueError, match="ended before its first step"):
        startup.watch([sys.executable, "-uc", "print('starting at step 0 of 1')"], Path("nowhere"))


def test_compiling_is_told_apart():
    figures = {"cache empty": {"state": 10.0, "compiled": 110.0, "compiling": 99.0, "step": 115.0}}
    assert "| cache empty | 10.0 | 110.0 | 115.0 | 16.0 |" in startup.table(figures)
