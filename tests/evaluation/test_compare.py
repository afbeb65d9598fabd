"""Runs side by side: the same pictures, differences picture by picture, and what is called best."""

import numpy as np
import pytest

from tvt_jax.evaluation.compare import Run, compare, format_comparison, other_truths
from tvt_jax.evaluation.scores import Evaluation


def run(name, metric="psnr-y", truths=None, **values):
    return Run(name, Evaluation(images={n: {metric: v} for n, v in values.items()}, truths=truths or {}))


def drawn(name, values, **options):
    return run(name, **{f"i{i}": float(v) for i, v in enumerate(values)}, **options)


def test_a_run_of_the_easy_pictures_alone_is_not_the_best():
    whole = drawn("whole", [30.0, 20.0, 30.0, 20.0, 30.0, 20.0, 1.0, 1.0])
    easy = drawn("easy", [29.0, 19.0, 29.0, 19.0, 29.0, 19.0])
    compared = compare([whole, easy])["psnr-y"]
    assert [(mean.mean, mean.count) for mean in compared.means] == [(25.0, 6), (24.0, 6)]
    assert compared.differences[0] is None
    assert (compared.differences[1].mean, compared.differences[1].count) == (-1.0, 6)
    assert compared.best == [True, False]
    assert compare([whole, drawn("fewer", [29.0, 19.0, 29.0, 19.0, 29.0])])["psnr-y"].best == [False, False]


def test_paired_intervals_tell_apart_what_unpaired_ones_do_not():
    generator = np.random.default_rng(0)
    hard = generator.normal(25, 3, 100)
    gain = generator.normal(0.13, 0.06, 100)
    one, two = compare([drawn("one", hard), drawn("two", hard + gain)])["psnr-y"].means
    assert one.low < two.mean < one.high
    difference = compare([drawn("one", hard), drawn("two", hard + gain)])["psnr-y"].differences[1]
    # The textbook interval of a mean of 100 is 1.96 deviations of a tenth; the bootstrap of 2,000 comes within 15 %.
    assert difference.mean == pytest.approx(gain.mean(), abs=1e-9)
    half = 1.96 * gain.std() / 10
    assert difference.high - difference.low == pytest.approx(2 * half, rel=0.15)


def test_what_can_not_be_told_from_the_best_is_marked_too():
    values = np.linspace(20, 30, 30)
    noise = np.tile([0.5, -0.5], 15)
    runs = [drawn("a", values), drawn("b", values + noise - 0.01), drawn("c", values - 1)]
    assert compare(runs)["psnr-y"].best == [True, True, False]
    assert compare([drawn(r.name, [v["psnr-y"] for v in r.evaluation.images.values()], metric="niqe") for r in runs])[
        "niqe"
    ].best == [False, False, True]


def test_a_single_picture_has_no_interval_and_no_best():
    compared = compare([run("one", a=20.0), run("two", a=21.0, b=30.0)])["psnr-y"]
    assert compared.differences[1].mean == 1 and compared.differences[1].low is compared.differences[1].high is None
    assert compared.best == [False, False]


def test_each_metric_is_over_the_runs_that_have_it():
    runs = [run("one", a=20.0, b=22.0), run("two", a=21.0, b=21.0), run("three", metric="musiq", a=60.0)]
    compared = compare(runs)
    assert [mean and mean.count for mean in compared["psnr-y"].means] == [2, 2, None]
    assert [mean and mean.count for mean in compared["musiq"].means] == [None, None, 1]
    assert compared["musiq"].differences == [None, None, None] and compared["musiq"].best == [False] * 3


def test_no_common_picture_gives_no_means():
    compared = compare([run("one", a=20.0), run("two", b=21.0)])["psnr-y"]
    assert compared.means == [None, None] and compared.best == [False, False]
    last = format_comparison([run("one", a=20.0), run("two", b=21.0)]).splitlines()[-1]
    assert last == "| psnr-y | | no common image | | | 0 |"


def test_an_unknown_metric_has_no_best():
    assert compare([drawn("one", range(6), metric="x"), drawn("two", range(1, 7), metric="x")])["x"].best == [False] * 2


def test_pictures_of_equal_names_and_different_truths_are_not_compared():
    one = run("one", a=20.0, b=22.0, truths={"a": "1", "b": "2"})
    two = run("two", a=21.0, b=23.0, truths={"a": "1", "b": "other"})
    assert other_truths([one, two]) == ["b"]
    assert compare([one, two])["psnr-y"].means[0].count == 1
    assert other_truths([one, run("of an earlier version", a=21.0)]) == []


def test_the_table_tells_differences_with_their_intervals():
    runs = [run("one", a=20.0, b=22.0), run("two", a=21.0, b=23.0), run("three", a=1.0)]
    assert format_comparison(runs).splitlines()[2:] == [
        "| psnr-y | one | 20.0000 |  |  | 1 |",
        "| psnr-y | two | 21.0000 | +1.0000 |  | 1 |",
        "| psnr-y | three | 1.0000 | -19.0000 |  | 1 |",
    ]
    (*_, last) = format_comparison(runs[:2]).splitlines()
    assert last == "| psnr-y | two | 22.0000 | +1.0000 | +1.0000 to +1.0000 | 2 |"
