"""Folders that people evaluated and got something wrong: small ones made here, and collected ones where they are."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tvt_jax.evaluation.command import main
from tvt_jax.evaluation.metrics import doubts

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases" / "evaluation"
SIDE = 100


def picture(seed=0, noise=0):
    rows, columns = np.mgrid[:SIDE, :SIDE] / 9
    smooth = np.stack([np.sin(rows), np.cos(columns), np.sin(rows * columns / 9)], axis=-1) * 90 + 128
    return np.clip(smooth + noise * np.random.default_rng(seed).standard_normal(smooth.shape), 0, 255).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _files(folder, sr, hr):
    for name in sr:
        save(folder / "sr" / name, picture(noise=9))
    for name in hr:
        save(folder / "hr" / name, picture())


def _subfolders_mixed(folder):
    _files(folder, ["a.png", "Canon/b.png"], ["a.png", "Canon/b.png"])


def _ppm_both_sides(folder):
    _files(folder, ["a.ppm", "b.png"], ["a.ppm", "b.png"])


def _role_numbers(folder):
    _files(folder, ["img_SR1.png"], ["img_HR2.png"])


def _two_formats(folder):
    _files(folder, ["a.png", "a.jpg", "b.png"], ["a.png", "b.png"])


def _x4_suffix(folder):
    _files(folder, ["0801x4.png"], ["0801.png"])


def _16bit_below_half_step(folder):
    deep = picture().astype(np.uint16) * 257
    for name, more in (("sr", np.random.default_rng(0).integers(0, 120, deep.shape, np.uint16)), ("hr", np.uint16(0))):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "a.png"), np.minimum(deep, 65000) + more)


def _alpha_both_hidden_differs(folder):
    alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
    alpha[: SIDE // 2] = 0
    hidden = picture(noise=9)
    for name, colour in (("sr", 255 - picture()), ("hr", picture())):
        save(folder / name / "a.png", np.dstack([np.where(alpha == 0, colour, hidden), alpha]))


MADE = {
    "subfolders_mixed": _subfolders_mixed,
    "ppm_both_sides": _ppm_both_sides,
    "role_numbers": _role_numbers,
    "two_formats": _two_formats,
    "x4_suffix": _x4_suffix,
    "16bit_below_half_step": _16bit_below_half_step,
    "alpha_both_hidden_differs": _alpha_both_hidden_differs,
}


@pytest.fixture(params=["made here", "collected"])
def score(request, tmp_path, capsys):
    """Score a case's two folders; return exit status, file, and what was said."""

    def score(case):
        folder = CASES / case
        if request.param == "made here":
            folder = tmp_path / case
            MADE[case](folder)
        elif not folder.is_dir():
            pytest.skip("the collected cases are not here")
        out = tmp_path / "m.json"
        status = main([f"--sr={folder / 'sr'}", f"--hr={folder / 'hr'}", f"--out={out}", "--metrics=psnr-y"])
        return status, json.loads(out.read_text()) if out.is_file() else None, capsys.readouterr().err

    return score


@pytest.mark.parametrize(
    ("case", "names"), [("subfolders_mixed", {"a", "Canon/b"}), ("ppm_both_sides", {"a", "b"}), ("x4_suffix", {"0801"})]
)
def test_all_are_scored(score, case, names):
    status, content, _ = score(case)
    assert status == 0 and content["images"].keys() == names and content["failures"] == {}


def test_numbers_after_a_role_are_no_scale(score):
    status, content, said = score("role_numbers")
    assert status == 1 and content is None
    assert "img_SR1.png and " in said and "img_HR2.png: folder and name must agree" in said


def test_one_ambiguous_name_does_not_stop_the_rest(score):
    status, content, said = score("two_formats")
    assert status == 1 and list(content["images"]) == ["b"] and list(content["failures"]) == ["a"]
    assert "a.jpg and " in said and "a.png have the same name" in said


def test_16_bits_that_8_would_make_equal_differ(score):
    status, content, said = score("16bit_below_half_step")
    assert status == 0 and content["images"]["a"]["psnr-y"] < 79 and "equals the truth" not in said


def test_8_bits_that_16_repeat_are_equal_and_that_is_told():
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    assert "equals the truth" in " ".join(doubts(image, image.astype(np.uint16) * 257, {}))
    assert doubts(image, image.astype(np.uint16) * 257 + 1, {}) == []


def test_what_is_hidden_does_not_count(score, tmp_path):
    _, content, _ = score("alpha_both_hidden_differs")
    # The hidden halves differ by some 90 levels, which alone would make less than 20 dB.
    assert content["images"]["a"]["psnr-y"] > 40


def test_made_alpha_is_equal_where_visible_is_equal(tmp_path, capsys):
    _alpha_both_hidden_differs(tmp_path)
    words = [f"--sr={tmp_path / 'sr'}", f"--hr={tmp_path / 'hr'}", f"--out={tmp_path / 'm.json'}", "--metrics=psnr-y"]
    assert main(words) == 0
    assert json.loads((tmp_path / "m.json").read_text())["images"]["a"]["psnr-y"] == pytest.approx(80, abs=1e-9)
    assert "warning: a: equals the truth; where PSNR would be infinite it is pyiqa's 80 dB" in capsys.readouterr().err


def _rgba_lr(folder):
    small = np.ascontiguousarray(picture()[::4, ::4])
    alpha = np.tile(np.linspace(0, 255, small.shape[1]).astype(np.uint8), (len(small), 1))
    save(folder / "lr" / "a.png", np.dstack([small, alpha]))
    save(folder / "lr" / "sub" / "b.png", small[..., 0])
    save(folder / "hr" / "a.png", picture())
    save(folder / "hr" / "sub" / "b.png", picture()[..., 0])


@pytest.mark.slow
@pytest.mark.parametrize("collected", [False, True])
def test_a_model_is_scored_by_what_upscaling_writes(tmp_path, collected):
    folder = CASES / "rgba_lr" if collected else tmp_path
    if collected and not folder.is_dir():
        pytest.skip("the collected cases are not here")
    if not collected:
        _rgba_lr(folder)

    def tvt(*words):
        command = [sys.executable, "-m", "tvt_jax.cli", *map(str, words)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    tvt("upscale", folder / "lr", tmp_path / "upscaled")
    scoring = ["--hr", folder / "hr", "--metrics", "psnr-y,psnr-rgb", "--out"]
    tvt("eval", "--sr", tmp_path / "upscaled", *scoring, tmp_path / "files.json")
    tvt("eval", "--lr", folder / "lr", *scoring, tmp_path / "model.json")
    files, model = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("files", "model"))
    assert (
        files["images"] == model["images"]
        and len(files["images"]) == 2
        and set(model["seconds"]) == set(files["images"])
    )


@pytest.mark.parametrize("collected", [False, True])
def test_niqe_of_few_blocks_is_doubted(tmp_path, capsys, collected):
    folder = CASES / "niqe_two_blocks"
    if collected and not folder.is_dir():
        pytest.skip("the collected cases are not here")
    if not collected:
        folder = tmp_path / "sr"
        textured = np.random.default_rng(0).integers(0, 256, (96, 192, 3), np.uint8)
        save(folder / "a.png", textured)
        save(folder / "b.png", np.random.default_rng(1).integers(0, 256, (97, 193, 3), np.uint8))
    out = tmp_path / "m.json"
    assert main(["--sr", str(folder), "--hr", str(folder), "--out", str(out), "--metrics", "niqe"]) == 0
    content, said = json.loads(out.read_text()), capsys.readouterr().err
    for name in content["images"]:
        assert "NIQE rests on 2 blocks of 96x96 pixels, and comes out too high below 16" in content["warnings"][name]
        assert f"warning: {name}: NIQE rests on 2 blocks" in said


@pytest.mark.parametrize("collected", [False, True])
def test_a_nan_to_compare_with_is_named_and_leaves_the_report_readable(tmp_path, capsys, collected):
    file = CASES / "against_nan.json"
    if collected and not file.is_file():
        pytest.skip("the collected cases are not here")
    if not collected:
        file = tmp_path / "against.json"
        file.write_text('{"images": {"Canon_001": {"niqe": NaN, "psnr": 20}, "a": {"niqe": 5.0}}, "failures": {}}')
    _files(tmp_path, ["Canon_001.png", "Canon_002.png"], ["Canon_001.png", "Canon_002.png"])
    report = tmp_path / "report.html"
    words = [f"--{name}={tmp_path / name}" for name in ("sr", "hr")]
    against = ["--metrics=psnr-y", f"--report={report}", "--against", f"other={file}"]
    assert main([*words, f"--out={tmp_path / 'm.json'}", *against]) == 0
    assert "warning: other: Canon_001: niqe is not a number in against" in capsys.readouterr().err

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    data = json.loads(
        report.read_text().split('type="application/json">')[1].split("</script>")[0], parse_constant=refuse
    )
    assert "niqe" not in data["runs"][1]["images"]["Canon_001"]
