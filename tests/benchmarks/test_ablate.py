"""Ablations with a stand-in for train.py, and what the configurations in configs/ablations differ in."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ttest_rel

from benchmarks import ablate
from benchmarks.ablation_tables import difference, digits, latex, plot, table
from tvt_jax.train.config import differences, load_config, to_json

ROOT = Path(__file__).parents[2]
CHANGED = {
    "adapt_without_lpips": {"stage.perceptual.lpips_weight"},
    "adapt_without_dists": {"stage.perceptual.dists_weight"},
    "adapt_without_vsd": {"stage.distillation.weight"},
    "adapt_rank_4": {"stage.lora.rank", "stage.lora.alpha"},
    "adapt_whole": {"stage.trained"},
    "adapt_latents": {
        *("stage.latent_weight", "stage.mse_weight", "stage.distillation.weight"),
        *("stage.perceptual.lpips_weight", "stage.perceptual.dists_weight"),
    },
    "adapt_8x": {
        *("stage.vae.block_out_channels", "stage.vae.mid_block", "stage.vae_source"),
        *(f"stage.student.{name}" for name in ("block_out_channels", "down_block_types", "attention_heads")),
    },
    "adapt_attention": {"stage.student.down_block_types"},
    "adapt_windowed_attention": {"stage.student.down_block_types", "stage.student.attention_windows"},
    "decoder_downsample": {"stage.geometry", "data.crop"},
    "decoder_without_gan": {"stage.adversarial_weight"},
    "decoder_of_means": {"stage.latent"},
    "decoder_from_nothing": {
        *("stage.class", "stage.source", "stage.source_vae", "stage.geometry", "stage.latent"),
        "stage.initial_log_variance",
    },
}
CONFIG = """
from tvt_jax.train.config import TrainConfig
from tvt_jax.data.pipeline import DataConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.vae import VAEStage

def config():
    data = DataConfig(path="x")
    return TrainConfig(stage=VAEStage(vae=AutoencoderKLConfig(), kl_weight={}), data=data, evaluation=data, steps=5)
"""
# Stands in for train.py: the measure is the weight plus the seed, and a weight of 9 diverges.
TRAIN = """
import json, sys
from pathlib import Path
from tvt_jax.train.config import load_config, to_json

config, workdir, *changes = sys.argv[1:]
wanted = load_config(config.partition("=")[2], changes)
workdir = Path(workdir.partition("=")[2])
workdir.mkdir(parents=True, exist_ok=True)
(workdir / "config.json").write_text(json.dumps(to_json(wanted)))
with (workdir / "started").open("a") as file:
    file.write("x")
psnr = wanted.stage.kl_weight + wanted.seed
entries = [{"kind": "evaluate", "step": step, "psnr-rgb": psnr} for step in (0, wanted.steps)]
entries.append({"kind": "train", "step": wanted.steps, "loss": 1.0})
if wanted.stage.kl_weight == 9 and wanted.seed == 1:
    del entries[1]
(workdir / "metrics.jsonl").write_text("".join(json.dumps(e) + "\\n" for e in entries) + '{"kind": "cut o')
if len(entries) < 3:
    sys.exit("error: 11 steps in a row were not finite")
"""


@pytest.fixture
def options(tmp_path, monkeypatch):
    for name, weight in (("base", 1.0), ("less", 0.5), ("wild", 9.0)):
        (tmp_path / f"{name}.py").write_text(CONFIG.format(weight))
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setattr(ablate, "TRAIN", tmp_path / "train.py")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return ablate.Options(configs=(tmp_path / "base.py", tmp_path / "less.py"), seeds=2, jobs=2, out=tmp_path / "out")


def starts(options):
    return {"/".join(path.parts[-3:-1]): len(path.read_text()) for path in sorted(options.out.glob("*/*/started"))}


def test_every_configuration_is_trained_with_every_seed_once(options):
    figures, failures = ablate.measure(options)
    assert figures == {"base": {"psnr-rgb": [1.0, 2.0]}, "less": {"psnr-rgb": [0.5, 1.5]}} and not failures
    assert ablate.measure(options) == (figures, [])
    assert starts(options) == dict.fromkeys(["base/seed_0", "base/seed_1", "less/seed_0", "less/seed_1"], 1)
    # The two seeds are a distance of 1 apart, and their differences to the base the same.
    assert table(figures).splitlines()[2:] == ["| base | 1.5 |  |", "| less | 1.0 | -0.5000 (-0.5000 to -0.5000) |"]


def test_a_run_that_diverges_is_a_row_and_not_the_end(options):
    options = replace(options, configs=(*options.configs, options.configs[0].with_name("wild.py")))
    figures, failures = ablate.measure(options)
    assert figures["wild"] == {"psnr-rgb": [9.0, None]} and len(figures["less"]["psnr-rgb"]) == 2
    assert failures == ["wild, seed 1: exit status 1: error: 11 steps in a row were not finite"]
    assert table(figures).splitlines()[-1] == "| wild (1 of 2 seeds) | 9.000 | +8.000 |"


def test_a_change_is_one_of_all_and_of_another_workdir(options):
    options = replace(options, seeds=1)
    figures, _ = ablate.measure(options, ["--config.stage.kl_weight=3", "--config.steps=7"])
    assert figures == {"base": {"psnr-rgb": [3.0]}, "less": {"psnr-rgb": [3.0]}}
    with pytest.raises(ValueError, match="out/base/seed_0 is of another configuration"):
        ablate.measure(options)
    with pytest.raises(ValueError, match=r"--config.stepz: TrainConfig has no 'stepz'"):
        ablate.measure(options, ["--config.stepz=7"])


def test_hosts_share_the_runs(options):
    """Each takes its own; the one that is last has them all."""
    ablate.measure(replace(options, part="0/2"))
    assert set(starts(options)) == {"base/seed_0", "base/seed_1"}
    figures, _ = ablate.measure(replace(options, part="1/2"))
    assert figures["less"] == {"psnr-rgb": [0.5, 1.5]}
    for part in ("2/2", "1", "0/0"):
        with pytest.raises(ValueError, match=f"--part={part} is not of the form I/N"):
            ablate.measure(replace(options, part=part))


def test_without_any_figure_of_the_base_it_ends(options):
    base = options.configs[0].with_name("wild.py")
    with pytest.raises(ValueError, match="no run of base has ended well, since other hosts train them"):
        ablate.measure(replace(options, part="3/9"))
    base.write_text(CONFIG.format(9.0).replace("evaluation=data, ", ""))
    with pytest.raises(ValueError, match=r"wild.py has no evaluation"):
        ablate.measure(replace(options, base=base))


def test_the_interval_of_a_difference_is_that_of_the_paired_t_test():
    """Of the seeds that both have; half the interval is .87, so two decimals mean something."""
    values, base = [1.0, 2.5, None, 3.1, 7.0], [0.8, 2.0, 9.0, 3.3, None]
    interval = ttest_rel([1.0, 2.5, 3.1], [0.8, 2.0, 3.3]).confidence_interval(0.95)
    assert difference(values, base) == f"+0.17 ({interval.low:+.2f} to {interval.high:+.2f})"


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.5, 0.5004], 4),
        ([24.1, 24.9], 1),
        ([1e3, 3e3], 0),
        ([0.12345], 4),
        ([24.123], 2),
        ([0.0], 4),
        ([2.0, 2.0], 3),
    ],
)
def test_digits_reach_to_the_second_of_the_interval(values, wanted):
    """Of one value, or of values that are the same, there is none: four digits are kept."""
    assert digits(np.array(values)) == wanted


def test_latex_and_the_plot(tmp_path):
    figures = {"a_b": {"psnr": [1.0, 2.0]}, "c": {"psnr": [2.0, 3.5]}, "lost": {}}
    lines = latex(figures).splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}" and lines[2] == r" & psnr & to the base \\"
    assert lines[4] == r"a\_b & 1.5 &  \\" and lines[6].startswith("lost (0 of 2 seeds) & -- & --")
    pytest.importorskip("matplotlib")
    plot(figures, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as drawn:
        assert drawn.size[0] > 100


@pytest.mark.parametrize("stage", ["adapt", "decoder"])
def test_the_published_table_is_that_of_the_published_figures(stage):
    figures = json.loads((ROOT / "docs" / "ablations" / f"{stage}.json").read_text())
    for row in figures.values():
        del row["seconds"]
    assert table(figures) in (ROOT / "docs" / "benchmarks.md").read_text()


def test_the_differences_that_hold_all_at_once_are_those_that_the_docs_name():
    chances = {}
    for stage in ("adapt", "decoder"):
        figures = json.loads((ROOT / "docs" / "ablations" / f"{stage}.json").read_text())
        for name, row in figures.items():
            for metric in ("dists", "lpips-alex", "psnr-rgb") if name != stage else ():
                chances[name, metric] = ttest_rel(row[metric], figures[stage][metric]).pvalue
    assert len(chances) == 30
    assert {difference for difference, chance in chances.items() if chance < 0.05 / len(chances)} == {
        ("adapt_without_dists", "lpips-alex"),
        ("decoder_from_nothing", "lpips-alex"),
        ("decoder_downsample", "psnr-rgb"),
    }
    assert round(100 * (1 - 0.05 / len(chances)), 2) == 99.83


def test_another_base_comes_first(options):
    figures, _ = ablate.measure(replace(options, base=options.configs[1], seeds=1))
    assert table(figures).splitlines()[2:] == ["| less | 0.5000 |  |", "| base | 1.000 | +0.5000 |"]


def test_a_workdir_of_another_configuration_is_an_error(options):
    options = replace(options, seeds=1)
    ablate.measure(options)
    options.configs[1].write_text(CONFIG.format(0.25))
    with pytest.raises(ValueError, match=r"less/seed_0 is of another configuration:\n.*kl_weight: 0.5 -> 0.25"):
        ablate.measure(options)


def test_equal_names_are_an_error(options, tmp_path):
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "base.py"
    other.write_text(CONFIG.format(2.0))
    with pytest.raises(ValueError, match="same file name"):
        ablate.measure(ablate.Options(configs=(options.configs[0], other), out=options.out))


@pytest.mark.parametrize("name", CHANGED)
def test_an_ablation_changes_one_thing(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    base, other = (
        to_json(load_config(ROOT / "configs" / "ablations" / f"{file}.py")) for file in (name.split("_")[0], name)
    )
    assert {re.match(r"config\.([\w.]+): ", line)[1] for line in differences(base, other)} == CHANGED[name]


def test_every_ablation_is_told_above():
    assert {path.stem for path in (ROOT / "configs" / "ablations").glob("*_*.py")} == set(CHANGED)
