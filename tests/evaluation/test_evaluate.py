import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tvt_jax.evaluation import restoration as module
from tvt_jax.evaluation.categories import read_categories
from tvt_jax.evaluation.evaluate import run
from tvt_jax.evaluation.metrics import choose_metrics
from tvt_jax.evaluation.pairs import find_pairs
from tvt_jax.evaluation.progress import Progress
from tvt_jax.evaluation.scores import read_evaluation, summarise
from tvt_jax.evaluation.scoring import evaluate
from tvt_jax.inference.upscaler import Upscaler


def save(path: Path, side: int = 24, seed: int = 0) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path):
    """Two matching pictures, named as benchmarks name them."""
    for seed, name in enumerate(("Canon_001", "Canon_002")):
        save(tmp_path / "sr" / f"{name}_LR4.png", seed=seed)
        save(tmp_path / "hr" / f"{name}_HR.png", seed=seed + 10)
    return tmp_path


def test_values_and_bad_pictures(folders):
    (folders / "sr" / "broken.png").write_bytes(b"no picture")
    save(folders / "hr" / "broken.png")
    save(folders / "sr" / "small.png", side=12)
    save(folders / "hr" / "small.png", side=13)
    save(folders / "sr" / "tiny.png", side=8)
    save(folders / "hr" / "tiny.png", side=8)
    pairs, _ = find_pairs(folders / "sr", folders / "hr")
    result = evaluate(pairs, choose_metrics("psnr-y,ssim-y"), Progress(folders / "m.json", ""))
    assert list(result.images) == ["Canon_001", "Canon_002", "tiny"]
    assert list(result.images["tiny"]) == ["psnr-y"]
    assert set(result.failures) == {"broken", "small", "tiny"}
    assert list(result.fingerprints) == ["Canon_001", "Canon_002"]
    assert "broken.png" in result.failures["broken"]
    assert "12x12 pixels and the truth 13x13" in result.failures["small"]
    assert "at least 11x11" in result.failures["tiny"]
    summaries = result.summaries()
    assert (summaries["psnr-y"].count, summaries["ssim-y"].count) == (3, 2)


def test_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.normal(3, 2, (200, 50))
    covered = [summary.low < 3 < summary.high for summary in (summarise(sample, 500) for sample in samples)]
    # 95 % nominal; the percentile bootstrap of 50 falls a little short, and 200 trials deviate by 1.5 points.
    assert 0.89 < np.mean(covered) < 0.99
    # The textbook interval of a mean of 50 draws of deviation 2 is +-0.55.
    assert np.mean([summarise(sample, 500).high - sample.mean() for sample in samples]) == pytest.approx(0.55, abs=0.03)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_missing_and_told(folders, value):
    pairs, _ = find_pairs(folders / "sr", folders / "hr")
    result = evaluate(pairs, {"odd": lambda image, truth: value}, Progress(folders / "m.json", ""))
    assert result.images == {} and set(result.failures.values()) == {"odd is not a number"}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("XLA: MemoryError\nand more")])
def test_a_picture_that_the_memory_can_not_hold_is_named_and_the_rest_goes_on(folders, error):
    calls = []

    def metric(image, truth):
        calls.append(0)
        if len(calls) == 1:
            raise error
        return 1.0

    pairs, _ = find_pairs(folders / "sr", folders / "hr")
    result = evaluate(pairs, {"large": metric}, Progress(folders / "m.json", ""))
    assert list(result.failures) == ["Canon_001"] and result.failures["Canon_001"].endswith("MemoryError")
    assert result.images == {"Canon_002": {"large": 1.0}}


def test_categories_are_folders_or_of_a_file(tmp_path):
    assert read_categories(None, ["Canon/a", "b"]) == {"Canon/a": "Canon"}
    kinds = tmp_path / "kinds.csv"
    kinds.write_text("b,sea\n")
    assert read_categories(kinds, ["Canon/a", "b"]) == {"b": "sea"}
    kinds.write_text("c,sea\n")
    with pytest.raises(ValueError, match="there is no image 'c'; names are such as 'Canon/a'"):
        read_categories(kinds, ["Canon/a", "b"])
    kinds.write_text("b;sea\n")
    with pytest.raises(ValueError, match="'b;sea' is not of the form NAME,CATEGORY"):
        read_categories(kinds, ["b"])


def test_categories_of_a_spreadsheet_are_read_and_odd_ones_refused(tmp_path):
    kinds = tmp_path / "kinds.csv"
    kinds.write_text('\ufeffa,"sea, calm"\n\nb,land\nb,land\n', encoding="utf-8")
    assert read_categories(kinds, ["a", "b"]) == {"a": "sea, calm", "b": "land"}
    for content, says in {
        b"a,sea\na,land\n": "'a' is both sea and land",
        b"a,\n": "'a,' is not of the form",
        b"": "names no image",
        b"a,\xff\n": "is no CSV file in UTF-8",
    }.items():
        kinds.write_bytes(content)
        with pytest.raises(ValueError, match=says):
            read_categories(kinds, ["a", "b"])


def test_pictures_that_another_run_lacks_are_named(folders, capsys):
    metrics = {"lr": None, "model": None, "save": None, "metrics": "psnr-y"}
    (folders / "few" / "hr").mkdir(parents=True)
    save(folders / "few" / "hr" / "Canon_001_HR.png", seed=10)
    save(folders / "few" / "Canon_001.png", seed=3)
    run(sr=folders / "few", hr=folders / "few" / "hr", out=folders / "few.json", **metrics)
    assert capsys.readouterr().err.count("few") == 0
    run(
        sr=folders / "sr", hr=folders / "hr", out=folders / "m.json", against=[f"few={folders / 'few.json'}"], **metrics
    )
    assert "warning: few: Canon_002: is not among its pictures, and not compared" in capsys.readouterr().err


class Doubler(Upscaler):
    unet = "there"

    def __init__(self):
        pass

    def check_fits(self, height, width):
        pass

    def result_size(self, height, width, scale):
        return 2 * height, 2 * width

    def upscale(self, image, scale, **options):
        return np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)


@pytest.fixture
def doubled(folders, monkeypatch):
    """A model that doubles, and inputs for it."""
    monkeypatch.setattr(module, "load", lambda model, tile: Doubler())
    for name in ("Canon_001", "Canon_002"):
        save(folders / "lr" / f"{name}_LR4.png", side=12)
    return folders


def test_a_report_shows_results_that_are_not_saved(doubled, capsys):
    options = {"hr": doubled / "hr", "model": None, "metrics": "psnr-y", "save": None}
    earlier, out, report = (doubled / name for name in ("earlier.json", "m.json", "report.html"))
    assert run(lr=None, sr=doubled / "sr", out=earlier, **options) == 0
    against = [f"earlier={earlier}"]
    assert run(lr=doubled / "lr", sr=None, out=out, report=report, against=against, **options) == 0
    data = json.loads(report.read_text().split('type="application/json">')[1].split("</script>")[0])
    assert [run["name"] for run in data["runs"]] == ["this run", "earlier"]
    assert [layer["label"] for layer in data["pictures"]["Canon_001"]["layers"]] == [
        *("input", "result", "earlier", "truth")
    ]
    assert sorted(path.name for path in doubled.iterdir() if path.is_file()) == [
        "earlier.json",
        "m.json",
        "report.html",
    ]


@pytest.mark.parametrize("changed", ["other", "damaged", "gone", "same"])
def test_a_report_shows_no_picture_that_changed_since_it_was_scored(folders, changed, capsys):
    options = {"lr": None, "hr": folders / "hr", "model": None, "metrics": "psnr-y", "save": None}
    earlier, report, picture = folders / "earlier.json", folders / "r.html", folders / "other" / "Canon_001.png"
    for seed, name in enumerate(("Canon_001", "Canon_002")):
        save(folders / "other" / f"{name}.png", seed=50 + seed)
    assert run(sr=folders / "other", out=earlier, **options) == 0
    if changed == "other":
        save(picture, seed=9)
    elif changed == "damaged":
        picture.write_bytes(b"damaged")
    elif changed == "gone":
        picture.unlink()
    assert run(sr=folders / "sr", out=folders / "m.json", report=report, against=[f"earlier={earlier}"], **options) == 0
    data = json.loads(report.read_text().split('type="application/json">')[1].split("</script>")[0])
    shown = [layer["label"] for layer in data["pictures"]["Canon_001"]["layers"]]
    assert shown == ["result", *(["earlier"] if changed == "same" else []), "truth"]
    assert ("the report leaves it out" in capsys.readouterr().err) == (changed != "same")


@pytest.mark.parametrize("place", ["folder", "folder/below/a.json", "hr/Canon_001_HR.png", "r.html"])
def test_what_cannot_be_written_is_told_before_anything_is_scored(folders, place):
    (folders / "folder").mkdir()
    (folders / "folder" / "below").touch()
    before = {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()}
    options = {"lr": None, "sr": folders / "sr", "hr": folders / "hr", "model": None, "metrics": "psnr-y", "save": None}
    says = "can't be written|is one of the pictures|are both"
    with pytest.raises(ValueError, match=says):
        run(out=folders / place, report=folders / "r.html", **options)
    with pytest.raises(ValueError, match=says):
        run(out=folders / "r.html", report=folders / place, **options)
    assert {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "content",
    [
        {"files": {"a": 5}},
        {"seconds": {"a": "x"}},
        {"failures": {"a": None}},
        {"truths": ["a"]},
        {"images": {"a": [1]}},
        [],
    ],
)
def test_a_file_of_another_form_is_told(tmp_path, content):
    good = {"images": {"a": {"psnr-y": 3}}, "failures": {}}
    (tmp_path / "a.json").write_text(json.dumps({**good, **content} if isinstance(content, dict) else content))
    with pytest.raises(ValueError, match=r"a\.json is not a file that eval\.py wrote"):
        read_evaluation(tmp_path / "a.json")


def test_values_that_are_no_numbers_are_missing_and_told(tmp_path):
    images = {"a": {"psnr-y": True, "ssim-y": 0.5}, "b": {"psnr-y": None}}
    content = {"images": images, "failures": {}, "together": {"fid": float("nan"), "kid": 1.0}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    read = read_evaluation(tmp_path / "a.json")
    assert read.images == {"a": {"ssim-y": 0.5}, "b": {}} and read.together == {"kid": 1.0}
    assert read.failures == {
        **dict.fromkeys("ab", "psnr-y is not a number in a.json"),
        "fid": "nan is not a number in a.json",
    }


def test_runs_with_other_truths_are_not_compared_and_that_is_told(folders, capsys):
    options = {"lr": None, "sr": folders / "sr", "hr": folders / "hr", "model": None, "metrics": "psnr-y", "save": None}
    earlier, out = folders / "earlier.json", folders / "m.json"
    assert run(out=earlier, crop_border=2, **options) == 0
    assert run(out=out, against=[f"earlier={earlier}"], **options) == 0
    told = capsys.readouterr()
    assert "| psnr-y | | no common image | | | 0 |" in told.out
    assert "warning: Canon_001 and 1 more: not in the comparison, since the runs have different truths" in told.err


def test_model_is_run_and_its_results_are_saved(doubled, capsys):
    out = doubled / "out" / "metrics.json"
    options = {"sr": None, "hr": doubled / "hr", "model": None, "metrics": "psnr-y", "out": out}
    assert run(lr=doubled / "lr", save=doubled / "saved", **options) == 0
    content = json.loads(out.read_text())
    assert content["failures"] == {}
    assert content["mean"]["psnr-y"]["count"] == len(content["images"]) == 2
    with Image.open(doubled / "saved" / "Canon_002_LR4.png") as saved:
        assert saved.size == (24, 24)
    assert f"{content['mean']['psnr-y']['mean']:.4f}" in capsys.readouterr().out
    assert sorted(path.name for path in out.parent.iterdir()) == ["metrics.json"]


@pytest.mark.parametrize("taken", ["lr", "hr"])
def test_results_never_take_the_place_of_inputs_or_truths(doubled, taken):
    for name in ("Canon_001", "Canon_002"):
        save(doubled / "hr" / f"{name}_LR4.png", side=24)
        (doubled / "hr" / f"{name}_HR.png").unlink()
    options = {"sr": None, "hr": doubled / "hr", "model": None, "metrics": "psnr-y", "out": doubled / "m.json"}
    before = (doubled / taken / "Canon_001_LR4.png").read_bytes()
    with pytest.raises(ValueError, match=r"would be overwritten|an input"):
        run(lr=doubled / "lr", save=doubled / taken, **options)
    assert (doubled / taken / "Canon_001_LR4.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sr", "sr", "--metrics", "psnr-y,musiq"], "error: unknown metric 'musiq'"),
        (["--sr", "sr", "--against", "b.json"], "not of the form NAME=metrics.json"),
        (["--sr", "sr", "--against", "=b.json"], "not of the form NAME=metrics.json"),
        (["--sr", "sr", "--against", "a=eval.py"], "No such file"),
        (["--sr", "sr", "--against", "a=hr/lonely.png"], "is not a file that eval.py wrote"),
        (["--sr", "sr", "--save", "x"], "error: --model, --save and --tile go with --lr"),
        (["--sr", "sr", "--against", "truth=b.json"], "'truth' is taken, choose another name"),
        (["--sr", "sr", "--categories", "kinds.csv"], "error: --categories goes with --report"),
        (["--sr", "sr", "--report", "r.html", "--categories", "none.csv"], "No such file"),
        (["--sr", "sr", "--crop-border", "-1"], "error: --crop-border -1 is out of range"),
        (["--lr", "hr"], "error: --lr and --hr are both hr: enlarged pictures need larger truths"),
        ([], "error: give --lr"),
        (["--lr", "sr", "--config", "c.py"], "error: --config goes with --follow"),
        (["--lr", "sr", "--config.steps=3"], "error: --config.steps=3 goes with --follow"),
        (["--lr", "sr", "--follow", "w"], "error: --follow needs --config"),
        (["--lr", "sr", "--follow", "w", "--config", "c.py", "--save", "x"], "--save does not go with --follow"),
        (["--lr", "sr", "--follow", "w", "--config", "c.py"], "error: no configuration file c.py"),
        (["--sr", "sr", "--metrics", "psnr-y"], "error: lonely: has no partner in sr"),
    ],
)
def test_command_line_errors(folders, arguments, message):
    save(folders / "hr" / "lonely.png")
    script = Path(__file__).parents[2] / "eval.py"
    command = [sys.executable, str(script), *arguments, "--hr", "hr", "--out", "m.json"]
    result = subprocess.run(command, cwd=folders, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
