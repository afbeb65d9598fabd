"""Fine structure: every measure against a closed form, and the tables with stand-ins for model and recogniser."""

import json
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks import text
from benchmarks.fine_structure import __main__ as program
from benchmarks.fine_structure import charts, errors, pages, present, scene, spectrum

SIDE = 128


def noise(seed):
    grey = np.random.default_rng(seed).normal(128, 20, (SIDE, SIDE))
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def test_equal_pictures_correlate_and_independent_ones_do_not():
    same, other = spectrum.compare(noise(0), noise(0)), spectrum.compare(noise(0), noise(1))
    assert same["correlation"] == pytest.approx([1] * 5) and same["energy"] == pytest.approx([0] * 5, abs=1e-9)
    assert spectrum.compare(255 - noise(0), noise(0))["correlation"] == pytest.approx([-1] * 5)
    # Half the coefficients are free, and the window joins neighbours, about 2 in number: deviation of 2 / sqrt(count).
    index = spectrum.rings(SIDE, SIDE)
    bounds = [4 * 2 / np.sqrt((index == band).sum()) for band in range(5)]
    assert all(abs(value) < bound for value, bound in zip(other["correlation"], bounds, strict=True))


def test_blur_takes_the_energy_that_its_transfer_function_says():
    sigma = 1.5
    grey = np.random.default_rng(0).normal(128, 30, (512, 512))
    blurred = ndimage.gaussian_filter(grey, sigma, mode="wrap")
    x, y = (np.abs(spectrum.spectrum(picture)) ** 2 for picture in (blurred, grey))
    index = spectrum.rings(512, 512)
    length = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512)[None])
    transfer = np.exp(-4 * np.pi**2 * sigma**2 * length**2)
    for band in range(4):
        inside = index == band
        # Noise of a few thousand coefficients and less in the lowest band.
        assert x[inside].sum() / y[inside].sum() == pytest.approx(transfer[inside].mean(), rel=0.06)


def test_rings_part_the_frequencies():
    index = spectrum.rings(64, 64)
    assert index[0, 0] == -1 and index[0, 1] == 0 and index[2, 0] == 1 and index[0, 31] == index[17, 0] == 4


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_the_rise_of_a_gaussian_edge_is_2_563_sigma(sigma):
    # The profile's points are means over a quarter of a pixel, and grey values whole numbers.
    assert charts.rise(charts.edge(SIDE, sigma)) == pytest.approx(2.563 * sigma, rel=0.02)


def test_overshoot_does_not_count_as_rise():
    picture = charts.edge(SIDE, 1.5).astype(float)
    sharpened = picture + 1.5 * (picture - ndimage.gaussian_filter(picture, (3, 3, 0)))
    assert charts.rise(np.clip(sharpened, 0, 255).astype(np.uint8)) < charts.rise(charts.edge(SIDE, 1.5))


@pytest.mark.parametrize("period", [4, 8, 16])
def test_blur_takes_the_contrast_of_lines_that_its_transfer_function_says(period):
    sigma = 1.0
    picture = charts.line_pairs(SIDE, period)
    assert charts.modulation(picture, period) == pytest.approx(1, abs=0.01)
    grey = ndimage.gaussian_filter(picture.astype(float), (sigma, sigma, 0))
    blurred = np.rint(grey).astype(np.uint8)
    expected = np.exp(-2 * np.pi**2 * sigma**2 / period**2)
    # Rounding to whole grey values, and the mirrored border.
    assert charts.modulation(blurred, period) == pytest.approx(expected, abs=0.01)


def test_lines_of_another_period_do_not_count():
    assert charts.modulation(charts.line_pairs(SIDE, 12), 8) < 0.01


def test_a_quarter_of_the_size_keeps_means():
    chart = charts.line_pairs(64, 16)
    small = charts.quarter(chart)
    assert small.shape == (16, 16, 3)
    assert small[3, 5, 0] == pytest.approx(chart[12:16, 20:24, 0].mean(), abs=0.5)


def test_the_finest_period_is_the_last_before_a_gap():
    kept = dict.fromkeys((f"{period} px" for period in charts.PERIODS), 0.5)
    assert present.finest(kept) == min(charts.PERIODS)
    assert present.finest(kept | {"10 px": 0.1}) == 12
    assert present.finest(kept | {"24 px": 0.1}) is None


def line(written, read, picture="a", columns=("all",)):
    return errors.Line(written=written, read=read, picture=picture, columns=columns)


def test_error_rates_count_a_line_in_each_of_its_columns():
    lines = [line("abcd", "abcd", columns=("all", "small")), line("abcd", "ab XX", columns=("all", "large"))]
    assert errors.rates(lines, ("all", "small", "large", "none")) == {"all": 0.25, "small": 0.0, "large": 0.5}


def test_differences_are_of_the_same_pictures():
    base = [line("abcd", "XXXX", "a"), line("ab", "ab", "b"), line("ab", "XX", "b")]
    better = [line("abcd", "abXX", "a"), line("ab", "aX", "b"), line("ab", "aX", "b")]
    more, low, high = errors.difference(better, base)
    # Two edits fewer on the first picture, none on the second, of four characters each.
    assert (more, low, high) == (-0.25, -0.5, 0.0)
    assert errors.difference(base, base) == [0, 0, 0]


def test_made_up_text_counts_once_where_it_is_capped():
    lines = [line("abcd", "XXXXXXXXXX"), line("abcd", "a-b-c-d")]
    assert errors.rates(lines, ("all",)) == {"all": 13 / 8}
    assert errors.rates(lines, ("all",), "capped") == {"all": 7 / 8}
    assert errors.rates(lines, ("all",), "recalled") == {"all": 4 / 8}


def test_one_picture_has_no_interval():
    assert errors.difference([line("ab", "ab")], [line("ab", "aX")], "recalled") == [0.5]


@pytest.mark.parametrize(
    ("difference", "measure", "verdict"),
    [
        ([-0.1, -0.2, -0.01], "capped", "better"),
        ([0.1, 0.01, 0.2], "capped", "worse"),
        ([0.1, 0.01, 0.2], "recalled", "better"),
        ([0.1, -0.01, 0.2], "capped", "not told apart"),
        ([0.1], "capped", "not told apart"),
    ],
)
def test_a_method_is_called_better_only_where_the_interval_allows_it(difference, measure, verdict):
    assert errors.verdict({measure: {"difference": difference}}, measure) == verdict


def test_the_interval_narrows_with_the_root_of_the_pictures():
    generator = np.random.default_rng(0)

    def width(count):
        read = ["a" if right else "X" for right in generator.random(count) < 0.5]
        base = [line("a", "a", str(i)) for i in range(count)]
        _, low, high = errors.difference([line("a", char, str(i)) for i, char in enumerate(read)], base)
        return high - low

    # A share of one half: 2 x 1.96 x 0.5 / sqrt(n), with about 5 % from 2,000 resamples.
    assert width(100) == pytest.approx(0.196, rel=0.1) and width(1600) == pytest.approx(0.049, rel=0.1)


def test_pages_are_always_the_same_and_have_the_contrast_that_they_tell():
    pytest.importorskip("matplotlib")
    fonts = text.bundled_fonts()
    first, again = (list(islice(pages.draw(fonts, None, 1, 128), 6)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert a.page.lines == b.page.lines and np.array_equal(a.small, b.small)
        assert a.small.shape == (32, 32, 3) and f"contrast {np.ptp(a.page.image)}" in a.columns
        assert all(f"{low}-{high} px" in a.columns for line in a.page.lines for low, high in pages.SIZES
                   if low <= line.size <= high)  # fmt: skip
    assert {column for page in first for column in page.columns} <= set(pages.COLUMNS)


def test_chinese_words_are_of_distinct_characters():
    assert len(set(pages._CHINESE)) == len(pages._CHINESE)
    words = [pages.chinese_word(np.random.default_rng(seed)) for seed in range(20)]
    assert {len(word) for word in words} == {2, 3, 4, 5} and set("".join(words)) <= set(pages._CHINESE)


def test_the_lines_of_signs_lie_in_the_pictures_and_count_in_three_columns():
    lines = [line for part in scene.lines_of().values() for line in part]
    assert len(lines) > 50
    for of_one in lines:
        left, top, right, bottom = of_one.box
        assert 0 <= left < right <= 512 and 0 <= top < bottom <= 512 and of_one.text.strip() == of_one.text
    read = [
        found
        for name in scene.lines_of()
        for found in scene.read_lines(name, np.zeros((512, 512, 3), np.uint8), lambda _: "")
    ]
    assert all(len(found.columns) == 3 and set(found.columns) < set(scene.COLUMNS) for found in read)
    assert scene.read_lines("Canon_046", np.zeros((512, 512, 3), np.uint8), lambda _: "")[0].columns[-1] == "Chinese"
    assert scene.read_lines("of no text", np.zeros((8, 8, 3), np.uint8), lambda _: "") == []


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """A reader that reads the same everywhere, a model that enlarges bicubically, fonts, and one pair, of noise."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(text, "load_reader", lambda: lambda crop: "x")
    monkeypatch.setattr(text, "chinese_fonts", text.bundled_fonts)
    monkeypatch.setattr(program.tvt_jax, "load", lambda: SimpleNamespace(upscale=program.bicubic))
    for folder, side in (("test_LR", 128), ("test_HR", 512), ("mine", 512)):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "Canon_046_LR4.png")
    return program.Options(bench=tmp_path, sr=(f"mine={tmp_path / 'mine'}",), pages=1)


def test_a_bench_that_lacks_a_truth_is_an_error(stand_ins):
    (stand_ins.bench / "test_LR" / "more.png").touch()
    with pytest.raises(ValueError, match=r"more has no partner in .*test_HR: the figures"):
        program.measure(stand_ins)


def test_all_tables_and_plots_from_stand_ins(stand_ins, tmp_path):
    figures = program.measure(stand_ins)
    assert list(figures["texture"]) == ["bicubic", "ours", "mine"]
    # The same noise as the truth's: all of it is there.
    assert figures["texture"]["mine"]["correlation"] == pytest.approx([1] * 5)
    assert figures["texture"]["bicubic"]["energy"][-1] < -20
    assert list(figures["charts"]) == ["HR", "bicubic", "ours"]
    assert figures["charts"]["HR"]["rise"] < 1.5 < figures["charts"]["bicubic"]["rise"]
    # Beyond the input's limit of 8 only the little is left that bicubic mirrors there.
    assert figures["charts"]["bicubic"]["6 px"] < 0.1 < 0.7 < figures["charts"]["bicubic"]["24 px"]
    assert list(figures["text"]) == ["RealSR", "English", "Chinese"]
    assert list(figures["text"]["RealSR"]["methods"]) == ["HR", "LR", "bicubic", "ours", "mine"]
    assert figures["text"]["Chinese"]["pictures"] == 36
    assert figures["text"]["English"]["methods"]["ours"]["capped"]["difference"] == [0, 0, 0]
    assert json.loads(json.dumps(figures)) == figures
    assert present.tables(figures).count("| ours |") == 9
    present.plot(figures, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 600 and np.ptp(np.asarray(picture)) > 200


def test_what_is_missing_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pylopdf-fonts-zh-cn: pip install 'tvt-jax\[bench\]'"):
        text.chinese_fonts()


def test_results_that_are_missing_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="not of the form NAME=DIR"):
        program._results("mine", tmp_path, [])


def test_the_published_tables_are_those_of_the_published_figures():
    docs = Path(__file__).parents[2] / "docs"
    figures = json.loads((docs / "fine_structure.json").read_text())
    page = (docs / "benchmarks.md").read_text()
    assert present.tables(figures) in page
    worse = [errors.verdict(text["methods"]["ours"], "capped") for text in figures["text"].values()]
    assert ("**It makes text harder to read**" in page) == (worse == ["worse"] * 3)
