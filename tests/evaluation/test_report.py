"""The report: what is in it, and how it behaves in a real browser."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tvt_jax.evaluation.report import SHOWN, Run, write_report
from tvt_jax.evaluation.scores import Evaluation

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
UNATTENDED = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync".split()
HOSTILE = "</script><b>"


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
    runs = [Run("ours", evaluation(len(layers), failures=failures)), Run(HOSTILE, evaluation(4, offset=0.01))]
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
    assert [picture["name"] for picture in best["pictures"]] == names[:SHOWN]
    assert [picture["name"] for picture in worst["pictures"]] == names[: -SHOWN - 1 : -1]
    picture = best["pictures"][0]
    assert (picture["width"], picture["height"]) == (32, 32)
    assert [layer["label"] for layer in picture["layers"]] == ["input", "result", "truth"]
    assert data["runs"][0]["mean"]["psnr-y"]["mean"] == pytest.approx(np.mean(20 + np.arange(len(layers))))
    assert {metric["name"]: metric["better"] for metric in data["metrics"]} == {"psnr-y": "more", "lpips-alex": "less"}


def test_values_of_all_images_together_are_among_the_means_without_interval(tmp_path, layers):
    other = Evaluation(images={"00": {"musiq": 60.0}}, together={"fid": 120.5})
    write_report(tmp_path / "report.html", "title", [Run("ours", evaluation(4)), Run("other", other)], layers)
    data = embedded(tmp_path / "report.html")
    better = {metric["name"]: metric["better"] for metric in data["metrics"]}
    assert better == {"psnr-y": "more", "lpips-alex": "less", "musiq": "more", "fid": "less"}
    assert data["runs"][1]["mean"]["fid"] == {"mean": 120.5} and "fid" not in data["runs"][0]["mean"]


def test_few_are_shown_once_and_none_without_scores(tmp_path, layers):
    write_report(tmp_path / "few.html", "few", [Run("ours", evaluation(3))], layers)
    assert [(g["title"], len(g["pictures"])) for g in embedded(tmp_path / "few.html")["galleries"]] == [
        ("All by lpips-alex", 3)
    ]
    write_report(tmp_path / "none.html", "none", [Run("ours", Evaluation())], layers)
    assert embedded(tmp_path / "none.html")["galleries"] == []


@pytest.mark.slow
def test_in_a_browser(report):
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    problems = []
    with playwright.sync_playwright() as runtime:
        browser = runtime.chromium.launch(executable_path=CHROMIUM, args=UNATTENDED)
        page = browser.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("request", lambda request: request.url.startswith("http") and problems.append(request.url))
        page.goto(report.as_uri())
        check(page)
        browser.close()
    assert not problems


def check(page):
    """As a reader would: the table, a point of the plot, the slider, the zoom, another layer."""
    assert page.title() == page.locator("h1").inner_text() == "A & B"
    rows = page.locator("#means tr")
    assert rows.count() == 3
    assert HOSTILE in rows.nth(2).inner_text()
    assert page.locator("#failures li").inner_text() == f"{HOSTILE}: has no partner"
    assert page.locator("#scatter circle").count() == 2 * SHOWN + 2 + 4
    page.locator('#scatter circle[data-name="01"]').last.click()
    figure = page.locator("figure.chosen")
    assert figure.get_attribute("data-name") == "01"
    pair = figure.locator(".pair")
    figure.locator("input").fill("25")
    assert "--cut: 25%" in pair.get_attribute("style")
    pair.click()
    assert "zoomed" in pair.get_attribute("class")
    pair.click()
    assert "zoomed" not in pair.get_attribute("class")
    before = pair.locator("img.over").get_attribute("src")
    figure.locator("select").nth(1).select_option("truth")
    assert pair.locator("img.over").get_attribute("src") != before
    assert all(page.evaluate("[...document.images].map((image) => image.naturalWidth === 32)"))
