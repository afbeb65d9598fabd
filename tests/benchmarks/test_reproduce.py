"""From a release's files to figures, at the size of the tests' release: sets as they are distributed, made up."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks import realsr
from benchmarks.reproduce import __main__ as reproduce
from benchmarks.reproduce import sets
from benchmarks.reproduce.read_back import agreement, read_lines, straighten
from convert.to_model import import_tvt
from tests.convert.conftest import release, sd, tensors, tokenizer  # noqa: F401
from tests.models.torch_tagger import SMALL, random_ram
from tvt_jax.tagger_folder import TaggerCard, write_tagger


def picture(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def bench(tmp_path):
    """Two pairs of RealSR, one of DIV2K's by its other folders, a pair of Real-CE, and a page."""
    root = tmp_path / "bench"
    for seed, name in enumerate(("a.png", "b.png")):
        write(root / "realsr" / "test_LR" / name, picture(seed, 24, 24))
        write(root / "realsr" / "test_HR" / name, picture(seed, 96, 96))
    write(root / "div2k" / "lq" / "0.png", picture(2, 24, 24))
    write(root / "div2k" / "gt" / "0.png", picture(2, 96, 96))
    for lens in ("13mm", "52mm"):
        write(root / "real-ce" / "val" / lens / "sign.png", picture(3, 99, 97))
    (root / "real-ce" / "val" / "valid_list.txt").write_text("sign.png\n")
    (root / "real-ce" / "val" / "annos").mkdir()
    text = "10,10,50,10,50,30,10,30,出口, Exit\n0,0,9,0,9,9,0,9,A b\n"
    (root / "real-ce" / "val" / "annos" / "sign.txt").write_bytes(text.encode("gbk"))
    write(root / "omnidoc" / "data" / "0001.png", picture(4, 32, 32))
    return root


@pytest.fixture
def quick(monkeypatch):
    """Stand-ins for metrics and recognisers: the real ones have tests of their own, and would be compiled for long."""
    monkeypatch.setattr(reproduce, "METRICS", dict.fromkeys(reproduce.METRICS, lambda image, truth: image.std()))
    monkeypatch.setattr(reproduce, "load_reader", lambda: lambda line: "exit")
    monkeypatch.setattr(reproduce, "load_page_reader", lambda: lambda page: "page" if page.shape[0] == 32 else "")


@pytest.fixture
def options(bench, release, sd, tmp_path):  # noqa: F811
    write_tagger(tmp_path / "tagger", SMALL, random_ram(SMALL), TaggerCard(tags={f"t{i}": 0.5 for i in range(20)}))
    return reproduce.Options(bench=bench, release=release, sd=sd, tagger=tmp_path / "tagger", out=tmp_path / "out")


@pytest.fixture
def small(monkeypatch):
    """Let the imported model take pictures as small as the sets' here."""

    def import_small(release, sd, out):  # noqa: F811
        import_tvt(release, sd, out)
        card = out / "tvt.json"
        card.write_text(json.dumps(json.loads(card.read_text()) | {"smallest_side": 8}))

    monkeypatch.setattr(reproduce, "import_tvt", import_small)


@pytest.mark.slow
def test_a_release_gets_its_figures_and_the_same_command_goes_on(options, quick, small, monkeypatch):
    seen, read = [], realsr.read
    monkeypatch.setattr(reproduce.Upscaler, "upscale", lambda self, image: seen.append(image) or enlarge(self, image))
    first = reproduce.measure(dataclasses.replace(options, limit=1, sets=("realsr",)))
    assert first["realsr"]["pictures"] == 1 and len(seen) == 1
    figures = reproduce.measure(options)
    assert list(figures) == ["realsr", "div2k", "real-ce", "omnidoc"] and len(seen) == 4
    assert reproduce.measure(options) == figures and len(seen) == 4
    assert figures["realsr"]["pictures"] == 2 and set(figures["realsr"]) == {"pictures", *reproduce.PHOTO_METRICS}
    assert read(options.out / "realsr" / "results" / "a.png").shape == (96, 96, 3)
    # Read as "exit" are "出口,exit" and "ab": 3 of 7 characters missing, and all of the four wrong.
    assert figures["real-ce"]["accuracy"] == 0
    assert figures["real-ce"]["ned"] == pytest.approx((4 / 7 + 0) / 2)
    assert figures["omnidoc"]["ned"] == 1
    told = reproduce.tables(figures)
    assert "| TVT, published |  |  | 0.2597 | 0.2061 |  |" in told and "| here, 2 pictures |" in told
    assert "| FLUX.1-dev's 8x VAE, published | 26.24 |  | 0.9546 |" in told


enlarge = reproduce.Upscaler.upscale


def test_another_release_is_not_taken_for_the_first(options):
    options.out.mkdir()
    (options.out / "release.json").write_text(json.dumps({"release": "other", "sd": "other"}))
    with pytest.raises(FileExistsError, match="was made of other files"):
        reproduce.model_folder(options)


def test_real_ces_pairs_are_made_as_its_own_code_makes_them(bench, tmp_path):
    inputs, truths = sets.write_real_ce(bench / "real-ce", tmp_path, None)
    low, high = realsr.read(inputs / "sign.png"), realsr.read(truths / "sign.png")
    # Its code reads by OpenCV, in [0, 1], and keeps floats.
    pixels = cv2.imread(str(bench / "real-ce" / "val" / "13mm" / "sign.png")).astype(np.float32) / 255
    expected = cv2.resize(pixels, (24, 24), interpolation=cv2.INTER_CUBIC)[..., ::-1].clip(0, 1) * 255
    assert np.abs(low - expected).max() <= 0.5001
    np.testing.assert_array_equal(high, picture(3, 99, 97)[:96, :96])


def test_real_ces_lines_have_commas_in_their_texts(bench):
    (first, second) = sets.real_ce_lines(bench / "real-ce", "sign")
    assert (first.text, second.text) == ("出口, Exit", "A b")
    assert first.corners.tolist() == [[10, 10], [50, 10], [50, 30], [10, 30]]
    (bench / "real-ce" / "val" / "annos" / "sign.txt").write_text("1,2,3,exit\n")
    with pytest.raises(ValueError, match="line 1: not eight coordinates and a text"):
        sets.real_ce_lines(bench / "real-ce", "sign")


def test_a_line_is_cut_out_upright():
    page = picture(0, 40, 60)
    line = sets.Line("A B", np.array([[10, 5], [50, 5], [50, 25], [10, 25]], np.float32))
    np.testing.assert_array_equal(straighten(page, line), page[5:25, 10:50])
    turned = sets.Line("A B", np.roll(line.corners, -1, axis=0))  # its top is on the right
    assert straighten(page, turned).shape == (40, 20, 3)
    assert read_lines(page, [line], lambda cut: "A  b") == [("ab", "ab")]


@pytest.mark.parametrize(
    ("written", "read", "expected"),
    [("abcd", "abcd", 1.0), ("abcd", "", 0.0), ("abcd", "abxd", 0.75), ("ab", "abcd", 0.5), ("", "", 1.0)],
)
def test_agreement_is_one_less_the_edits_over_the_longer(written, read, expected):
    assert agreement(written, read) == expected


def test_what_is_missing_is_told(bench, tmp_path):
    with pytest.raises(ValueError, match="give --release and --sd, or --model in their place"):
        reproduce.Options(bench=bench, release=tmp_path)
    with pytest.raises(ValueError, match="there is no set 'set5': choose from realsr, drealsr"):
        reproduce.Options(bench=bench, model=tmp_path, sets=("set5",))
    with pytest.raises(FileNotFoundError, match=r"has none of the folders realsr, drealsr, div2k, real-ce, omnidoc"):
        sets.find_sets(tmp_path)
    with pytest.raises(FileNotFoundError, match="drealsr is not there"):
        reproduce.measure(reproduce.Options(bench=bench, model=tmp_path, sets=("drealsr",)))
    (bench / "realsr" / "test_HR" / "b.png").unlink()
    with pytest.raises(ValueError, match=r"b\.png is in only one of"):
        sets.photo_folders(bench / "realsr")
    with pytest.raises(FileNotFoundError, match="has no folders test_LR and test_HR or lq and gt"):
        sets.photo_folders(tmp_path)
    write(bench / "omnidoc" / "other" / "0001.png", picture(0, 8, 8))
    with pytest.raises(ValueError, match="have the same name"):
        sets.omnidoc_files(bench / "omnidoc")
