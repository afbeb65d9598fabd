"""pyiqa's metrics: with a stand-in that has pyiqa's calls, since its weights are only to be had over a network."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from benchmarks import no_reference, report
from tvt_jax.evaluation.scores import read_evaluation


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two results, named otherwise than their truths, and a command line that asks for them."""
    for folder, names in {"sr": ("a_SR.png", "b_SR.png"), "hr": ("a_HR.png", "b_HR.png")}.items():
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            Image.fromarray(np.full((4, 4, 3), 50 * i, np.uint8)).save(tmp_path / folder / name)
    options = [f"--{name}={tmp_path / name}" for name in ("sr", "hr")]
    monkeypatch.setattr(sys, "argv", ["no_reference", *options, f"--out={tmp_path / 'm.json'}"])
    return tmp_path


@pytest.fixture
def pyiqa(monkeypatch):
    """Each metric of a file is its first pixel and its own number; FID how many files both folders share."""
    numbers = {"musiq": 1, "maniqa-pipal": 2, "clipiqa": 3}

    def create_metric(name):
        if name == "fid":
            return lambda *folders: np.float64(
                len(set.intersection(*({p.name for p in Path(f).iterdir()} for f in folders)))
            )
        return lambda file: np.asarray(Image.open(file))[:1, :1, 0] + np.float32(numbers[name])

    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))


@pytest.mark.usefixtures("pyiqa")
def test_the_file_is_one_of_eval_py(folders, capsys):
    no_reference.main()
    written = read_evaluation(folders / "m.json")
    assert written.images == {
        "a": {"musiq": 1, "maniqa": 2, "clipiqa": 3},
        "b": {"musiq": 51, "maniqa": 52, "clipiqa": 53},
    }
    assert written.together == {"fid": 2}
    table = capsys.readouterr().out
    assert "| musiq | 26.0000 |" in table and "| fid | 2.0000 | | 2 |" in table


@pytest.mark.usefixtures("pyiqa")
def test_sets_that_differ_are_an_error(folders):
    (folders / "hr" / "b_HR.png").unlink()
    with pytest.raises(SystemExit, match=r"error: b has no partner in .*: FID compares two whole sets"):
        report.run_as_command(no_reference.main)
    assert not (folders / "m.json").exists()


@pytest.mark.usefixtures("folders")
def test_without_pyiqa_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(SystemExit, match=r"need pyiqa: pip install 'tvt-jax\[pyiqa\]'"):
        report.run_as_command(no_reference.main)
