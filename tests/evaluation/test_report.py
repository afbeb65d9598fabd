"""The report: what is in it, and how it behaves in a real browser."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tvt_jax.evaluation import report as module
from tvt_jax.evaluation.compare import Run
from tvt_jax.evaluation.report import SHOWN, write_report
from tvt_jax.evaluation.scores import Evaluation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
UNATTENDED = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync".split()
HOSTILE = f"</script><b>{50 * 'x'}"  # and wider than a phone


def evaluation(count, offset=0.0, failures=None):
    images = {f"{i:02}": {"psnr-y": 20.0 + i, "lpips-alex": 0.1 * i + offset} for i in range(count)}
    return Evaluation(images=images, failures=failures or {})


@pytest.fixture
def layers(tmp_path):
    """Three pictures an image: the input is of a quarter of the size."""
    made = {}
    for i in range(2 * SHOWN + 2):
        made[f"{i:02}"] = {}
        for label, side in (("input", 8), ("result", 32), ("truth", 32)):
            file = tmp_path / f"{i}_{label}.png"
            Image.new("RGB", (side, side), (10 * i, len(label) * 20, 0)).save(file)
            made[f"{i:02}"][label] = file
    return made


@pytest.fixture
def report(tmp_path, layers):
    failures = {HOSTILE: "has no partner"}
    other = evaluation(4, offset=0.01, failures={"04": "missing"})
    runs = [Run("ours", evaluation(len(layers), failures=failures)), Run(HOSTILE, other)]
    write_report(tmp_path / "made" / "report.html", "A & B", runs, layers)
    return tmp_path / "made" / "report.html"


def embedded(path):
    text = path.read_text()
    assert text.count("<script") == text.count("</script>") == 2
    return json.loads(re.search(r'type="application/json">(.*)</script>', text)[1])


def test_best_and_worst_are_shown(report, layers):
    data = embedded(report)
    best, worst = data["galleries"]
    assert [best["title"], worst["title"]] == ["Best by lpips-alex", "Worst by lpips-alex"]
    names = sorted(layers)
    assert best["names"] == names[:SHOWN]
    assert worst["names"] == names[: -SHOWN - 1 : -1]
    picture = data["pictures"][names[0]]
    assert (picture["width"], picture["height"]) == (32, 32)
    assert [layer["label"] for layer in picture["layers"]] == ["input", "result", "truth"]
    # The other run has the first four images alone.
    assert data["runs"][0]["cells"]["psnr-y"]["mean"] == pytest.approx(np.mean(20 + np.arange(4)))
    assert [run["cells"]["psnr-y"]["count"] for run in data["runs"]] == [4, 4]
    assert {metric["name"]: metric["better"] for metric in data["metrics"]} == {"psnr-y": "more", "lpips-alex": "less"}


def test_values_of_all_images_together_are_among_the_means_without_interval(tmp_path, layers):
    other = Evaluation(images={"00": {"musiq": 60.0}}, together={"fid": 120.5})
    write_report(tmp_path / "report.html", "title", [Run("ours", evaluation(4)), Run("other", other)], layers)
    data = embedded(tmp_path / "report.html")
    better = {metric["name"]: metric["better"] for metric in data["metrics"]}
    assert better == {"psnr-y": "more", "lpips-alex": "less", "musiq": "more", "fid": "less"}
    assert data["runs"][1]["cells"]["fid"] == {"mean": 120.5} and "fid" not in data["runs"][0]["cells"]


def test_few_are_shown_once_and_none_without_scores(tmp_path, layers):
    write_report(tmp_path / "few.html", "few", [Run("ours", evaluation(3))], layers)
    assert [(g["title"], len(g["names"])) for g in embedded(tmp_path / "few.html")["galleries"]] == [
        ("All by lpips-alex", 3)
    ]
    write_report(tmp_path / "none.html", "none", [Run("ours", Evaluation())], layers)
    assert embedded(tmp_path / "none.html")["galleries"] == []


def test_every_scored_picture_is_there_and_large_sets_are_shrunk(tmp_path, layers, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 5)
    monkeypatch.setattr(module, "_SIDES", (32, 16))
    write_report(tmp_path / "report.html", "title", [Run("ours", evaluation(len(layers)))], layers)
    pictures = embedded(tmp_path / "report.html")["pictures"]
    assert set(pictures) == set(layers)
    # The best and the worst are shown whole; two are in neither gallery.
    assert sum(not picture["whole"] for picture in pictures.values()) == 2


def test_categories_have_means_of_their_own(tmp_path, layers):
    categories = {"00": "city", "01": "city", "02": "sea"}
    runs = [Run("ours", evaluation(4)), Run("other", evaluation(4, offset=0.01))]
    write_report(tmp_path / "report.html", "title", runs, layers, categories)
    city, sea = embedded(tmp_path / "report.html")["categories"]
    assert (city["name"], sea["name"]) == ("city", "sea")
    assert [mean["mean"] for mean in city["means"]["psnr-y"]] == [20.5, 20.5]
    assert sea["means"]["lpips-alex"][1] == {"mean": pytest.approx(0.21), "low": None, "high": None, "count": 1}


def test_cost_doubts_and_failures_are_told(tmp_path, layers):
    timed = dataclasses.replace(evaluation(3), seconds={"00": 1.0, "01": 9.0, "02": 2.0}, warnings={"00": "doubtful"})
    other = Evaluation(images={"00": {"psnr-y": 1.0}}, failures={"01": "missing"})
    write_report(tmp_path / "report.html", "title", [Run("ours", timed), Run("other", other)], layers)
    data = embedded(tmp_path / "report.html")
    assert [run["seconds"] for run in data["runs"]] == [2.0, None]
    assert [(note["title"], note["items"]) for note in data["notes"]] == [
        ("Scored, with doubts", [["00", "doubtful"]]),
        ("Missing in other", [["01", "missing"]]),
    ]


@pytest.mark.parametrize("metric", ["psnr", "anything"])
def test_an_unknown_metric_has_no_direction(tmp_path, layers, metric):
    runs = [Run(str(value), Evaluation(images={name: {metric: value} for name in layers})) for value in (1.0, 2.0)]
    write_report(tmp_path / "report.html", "title", runs, layers)
    data = embedded(tmp_path / "report.html")
    assert data["metrics"] == [{"name": metric, "better": "unknown"}]
    assert not any(run["cells"][metric]["best"] for run in data["runs"])


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(report, width):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    problems = []
    with playwright.sync_playwright() as runtime:
        browser = runtime.chromium.launch(executable_path=CHROMIUM, args=UNATTENDED)
        page = browser.new_page(viewport={"width": width, "height": 844})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("request", lambda request: request.url.startswith("http") and problems.append(request.url))
        page.goto(report.as_uri())
        check_tables(page)
        check_plot(page)
        check_picture(page)
        # Nothing is wider than the screen: wide tables move within themselves.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert not problems


def check_tables(page):
    assert page.title() == page.locator("h1").inner_text() == "A & B"
    rows = page.locator("#means tbody tr")
    assert rows.count() == 2 and HOSTILE in rows.nth(1).inner_text()
    assert page.locator(".notes li").first.inner_text() == f"{HOSTILE}: has no partner"
    page.locator("#means th", has_text="lpips-alex").locator("button").click()
    assert rows.first.locator("td").first.inner_text().startswith("ours")
    page.locator("#means th", has_text="lpips-alex").locator("button").click()
    assert rows.first.locator("td").first.inner_text().startswith(HOSTILE)
    assert page.locator("#means th[aria-sort=descending]").count() == 1


def check_plot(page):
    """Every dot opens its picture, by the keyboard too; axes have names."""
    dots = page.locator("#scatter circle")
    assert dots.count() == 2 * SHOWN + 2 + 4
    assert sorted(page.locator("#scatter .axis").all_text_contents()) == ["lpips-alex", "psnr-y"]
    assert page.locator("#scatter circle[tabindex='0']").count() == 1
    for number in range(dots.count()):
        dots.nth(number).dispatch_event("click")
        figure = page.locator("dialog figure")
        assert figure.get_attribute("data-name") == dots.nth(number).get_attribute("data-name")
    page.keyboard.press("Escape")
    page.locator("#scatter circle[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    chosen = page.locator("#scatter circle:focus").get_attribute("data-name")
    page.keyboard.press("Enter")
    assert page.locator("dialog figure").get_attribute("data-name") == chosen
    page.get_by_text("next", exact=True).click()
    assert page.locator("dialog figure").get_attribute("data-name") != chosen
    page.get_by_text("close", exact=True).click()
    assert not page.locator("dialog").is_visible()


def check_picture(page):
    figure = page.locator("#galleries figure").first
    pair = figure.locator(".pair")
    figure.locator("input").fill("25")
    assert "--cut: 25%" in pair.get_attribute("style")
    pair.click()
    assert "zoomed" in pair.get_attribute("class")
    pair.press("Enter")
    assert "zoomed" not in pair.get_attribute("class")
    before = pair.locator("img.over").get_attribute("src")
    figure.locator("select").nth(1).select_option("truth")
    assert pair.locator("img.over").get_attribute("src") != before
    assert all(page.evaluate("[...document.images].map((image) => image.naturalWidth === 32)"))
