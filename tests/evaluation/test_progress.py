"""An evaluation that is cut off and started again: what is measured twice, and what the file says in the end."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax import fingerprint as code
from tvt_jax.evaluation import restoration as module
from tvt_jax.evaluation.evaluate import run
from tvt_jax.evaluation.metrics import METRICS
from tvt_jax.evaluation.progress import METRIC_CODE, Progress
from tvt_jax.fingerprint import RESTORATION_CODE
from tvt_jax.inference.mark import fingerprint
from tvt_jax.inference.upscaler import Upscaler

COUNT = 4
NOT_COMPUTING = {
    "__init__.py",
    "compilation_cache.py",
    "executable.py",
    "files.py",
    "fingerprint.py",
    "hub.py",
    "place.py",
    "bucket.py",
}


@pytest.fixture
def folders(tmp_path):
    """Inputs and truth of half and full size; the inputs are scored as results too."""
    generator = np.random.default_rng(0)
    for folder, side in (("lr", 4), ("sr", 8), ("hr", 8)):
        (tmp_path / folder).mkdir()
        for i in range(COUNT):
            Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8)).save(tmp_path / folder / f"{i}.png")
    return tmp_path


class Counting:
    """A metric that counts its calls and stands still for Ctrl-C at one of them."""

    def __init__(self, interrupted_at=None):
        self.calls, self.interrupted_at = 0, interrupted_at

    def __call__(self, image, reference):
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        return float(image.astype(float).mean() / 3)


@pytest.fixture
def score(folders, monkeypatch):
    """Scores with a new counting metric; returns its calls."""

    def score(out, interrupted_at=None, **options):
        metric = Counting(interrupted_at)
        monkeypatch.setitem(METRICS, "psnr-y", metric)
        fixed = {"lr": None, "sr": folders / "sr", "hr": folders / "hr", "model": None, "save": None}
        arguments = fixed | {"metrics": "psnr-y", "out": folders / out} | options
        if interrupted_at:
            with pytest.raises(KeyboardInterrupt):
                run(**arguments)
        else:
            assert run(**arguments) == 0
        return metric.calls

    return score


class Doubler(Upscaler):
    unet = "there"

    def __init__(self):
        self.calls = 0

    def check_fits(self, height, width):
        pass

    def result_size(self, height, width, scale):
        return 2 * height, 2 * width

    def upscale(self, image, scale, **options):
        self.calls += 1
        return image.repeat(2, axis=0).repeat(2, axis=1)


def test_goes_on_after_an_interruption_and_ends_with_the_same_file(folders, score):
    assert score("straight.json") == COUNT
    assert score("cut.json", interrupted_at=3) == 3
    assert not (folders / "cut.json").exists()
    assert score("cut.json") == COUNT - 2
    assert (folders / "cut.json").read_bytes() == (folders / "straight.json").read_bytes()
    assert not list(folders.glob("*.unfinished"))


def test_a_line_that_was_cut_off_is_scored_again(folders, score):
    score("m.json", interrupted_at=3)
    lines = folders / "m.json.unfinished" / "scores.jsonl"
    lines.write_text(lines.read_text()[:-5])
    assert score("m.json", interrupted_at=2) == 2
    assert score("m.json") == COUNT - 2


def test_a_finished_one_is_done_again_where_an_input_changed(folders, score):
    score("m.json")
    assert score("m.json") == 0
    Image.new("RGB", (8, 8), (9, 9, 9)).save(folders / "sr" / "1.png")
    assert score("m.json") == 1
    assert json.loads((folders / "m.json").read_text())["images"]["1"] == {"psnr-y": 3.0}
    assert score("m.json", metrics="psnr-y,psnr-y") == COUNT


def test_a_model_is_run_again_only_for_results_that_are_not_there(folders, score, monkeypatch, tmp_path):
    model = Doubler()
    monkeypatch.setattr(module, "load", lambda path, tile: model)
    options = {"sr": None, "lr": folders / "lr", "save": folders / "saved"}
    assert score("m.json", interrupted_at=2, **options) == 2
    assert (score("m.json", **options), model.calls) == (COUNT - 1, COUNT + 1)
    (folders / "saved" / "3.png").unlink()
    assert (score("m.json", **options), model.calls) == (1, COUNT + 2)
    other = tmp_path / "model"
    other.mkdir()
    (other / "tvt.json").write_text("{}")
    assert score("m.json", model=other, **options) == COUNT


def test_pictures_for_a_report_outlive_an_interruption(folders, score, monkeypatch):
    model = Doubler()
    monkeypatch.setattr(module, "load", lambda path, tile: model)
    options = {"sr": None, "lr": folders / "lr", "report": folders / "report.html"}
    score("m.json", interrupted_at=3, **options)
    assert (score("m.json", **options), model.calls) == (COUNT - 2, COUNT + 1)
    assert (folders / "report.html").is_file() and not list(folders.glob("*.unfinished"))


def test_a_fingerprint_changes_with_settings_and_content_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"a")
    two.write_bytes(b"a")
    progress = Progress(tmp_path / "m.json", "psnr-y")
    assert progress.fingerprint(one) == progress.fingerprint(two)
    two.write_bytes(b"b")
    different = [(one,), (two,), (one, two), (two, one), (one, tmp_path / "none")]
    prints = {progress.fingerprint(*files) for files in different}
    assert len(prints | {Progress(tmp_path / "m.json", "ssim-y").fingerprint(one)}) == len(different) + 1


def test_a_model_is_known_by_its_files(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "w.safetensors").write_bytes(b"1")
    before = fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("a note")
    assert fingerprint(tmp_path) == before
    (tmp_path / "unet" / "w.safetensors").write_bytes(b"2")
    assert fingerprint(tmp_path) != before


def test_a_truth_that_changed_is_scored_again(folders, score):
    score("m.json")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(folders / "hr" / "1.png")
    assert score("m.json") == 1


@pytest.mark.parametrize("changed", [{"crop_border": 1}, {"force": True}])
def test_another_border_or_force_scores_again(score, changed):
    score("m.json")
    assert score("m.json", **changed) == COUNT


def test_force_forgets_what_an_interruption_left(score):
    score("m.json", interrupted_at=3)
    assert score("m.json", force=True) == COUNT


@pytest.mark.parametrize("changed", ["metrics/luma.py", "metrics/niqe.safetensors", "models/dists.py"])
def test_code_of_the_metrics_that_changed_scores_again(folders, score, monkeypatch, tmp_path, changed):
    package = tmp_path / "package"
    shutil.copytree(code._PACKAGE, package, ignore=shutil.ignore_patterns("pretrained", "__pycache__"))
    monkeypatch.setattr(code, "_PACKAGE", package)
    score("m.json")
    assert score("m.json") == 0
    with (package / changed).open("ab") as file:
        file.write(b"\n")
    assert score("m.json") == COUNT


def test_code_of_restoring_counts_for_what_a_model_makes(folders, score, monkeypatch, tmp_path):
    package = tmp_path / "package"
    shutil.copytree(code._PACKAGE, package, ignore=shutil.ignore_patterns("pretrained", "__pycache__"))
    monkeypatch.setattr(code, "_PACKAGE", package)
    monkeypatch.setattr(module, "load", lambda path, tile: Doubler())
    made = {"sr": None, "lr": folders / "lr"}
    score("made.json", **made)
    score("as_is.json")
    assert score("made.json", **made) == 0
    with (package / "diffusion.py").open("a") as file:
        file.write("\n")
    assert score("made.json", **made) == COUNT
    assert score("as_is.json") == 0


@pytest.mark.parametrize(
    ("imported", "parts"),
    [
        ("tvt_jax.inference", RESTORATION_CODE),
        (", ".join(f"tvt_jax.metrics.{name}" for name in ("dists", "lpips", "niqe", "psnr", "ssim")), METRIC_CODE),
    ],
)
def test_all_code_that_is_imported_counts(imported, parts):
    program = f"import sys, {imported}\nfor n, m in sys.modules.items():\n  if 'tvt_jax' in n: print(m.__file__)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    files = {str(Path(file).relative_to(code._PACKAGE)) for file in found}
    counted = {file for file in files if any(file == part or file.startswith(f"{part}/") for part in parts)}
    assert files - counted <= NOT_COMPUTING


def test_all_code_that_reads_pictures_counts_for_scores():
    """By the imports that the counted files name: to import one would bring all of its package."""
    counted = {file for part in METRIC_CODE for file in [code._PACKAGE / part, *(code._PACKAGE / part).rglob("*.py")]}
    bookkeeping = {f"evaluation/{name}.py" for name in ("pairs", "progress", "scores")} | NOT_COMPUTING
    for file in filter(Path.is_file, counted):
        tree = ast.parse(file.read_text()) if file.suffix == ".py" else ast.Module([], [])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tvt_jax."):
                module = code._PACKAGE.joinpath(*node.module.split(".")[1:])
                names = [module / name.name for name in node.names] if module.is_dir() else [module]
                needed = {path.with_suffix(".py") for path in names if path.with_suffix(".py").is_file()} - counted
                assert {str(path.relative_to(code._PACKAGE)) for path in needed} <= bookkeeping, file


def test_a_file_of_scores_with_a_line_of_something_else_is_read(folders, score):
    score("m.json", interrupted_at=3)
    with (folders / "m.json.unfinished" / "scores.jsonl").open("a") as file:
        file.write('\n[1, 2]\n{"fingerprint": 3}\n')
    assert score("m.json") == COUNT - 2
