"""Ablations with a stand-in for train.py, and what the configurations in configs/ablations differ in."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from scipy.stats import ttest_rel

from benchmarks import ablate
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
    return TrainConfig(stage=VAEStage(vae=AutoencoderKLConfig(), kl_weight={}), data=DataConfig(path="x"), steps=5)
"""


@pytest.fixture
def options(tmp_path):
    for name, weight in (("base", 1.0), ("less", 0.5)):
        (tmp_path / f"{name}.py").write_text(CONFIG.format(weight))
    return ablate.Options(configs=(tmp_path / "base.py", tmp_path / "less.py"), seeds=2, out=tmp_path / "out")


@pytest.fixture
def trained(monkeypatch):
    """Stands in for train.py: the measure is the weight plus the seed; returns the workdirs trained in."""
    trained = []

    def run(command):
        config, workdir, change = (argument.partition("=")[2] for argument in command[2:])
        wanted = load_config(config, [f"--config.seed={change}"])
        Path(workdir).mkdir(parents=True)
        (Path(workdir) / "config.json").write_text(json.dumps(to_json(wanted)))
        entries = [
            {"kind": "evaluate", "step": step, "psnr-rgb": wanted.stage.kl_weight + wanted.seed} for step in (0, 5)
        ]
        entries.append({"kind": "train", "step": 5, "loss": 1.0})
        lines = "".join(json.dumps(entry) + "\n" for entry in entries)
        (Path(workdir) / "metrics.jsonl").write_text(lines + '{"kind": "cut o')
        trained.append("/".join(Path(workdir).parts[-2:]))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(ablate.subprocess, "run", run)
    return trained


def test_every_configuration_is_trained_with_every_seed_once(options, trained):
    figures = ablate.measure(options)
    assert trained == ["base/seed_0", "less/seed_0", "base/seed_1", "less/seed_1"]
    assert figures == {"base": {"psnr-rgb": [1.0, 2.0]}, "less": {"psnr-rgb": [0.5, 1.5]}}
    assert ablate.measure(options) == figures and len(trained) == 4


def test_the_table_pairs_seeds(options, trained):
    lines = ablate.table(ablate.measure(options)).splitlines()
    # The two seeds are a distance of 1 apart, and their differences to the base the same.
    assert lines[2:] == ["| base | 1.5000 |  |", "| less | 1.0000 | -0.5000 (-0.5000 to -0.5000) |"]


def test_the_interval_of_a_difference_is_that_of_the_paired_t_test():
    values, base = [1.0, 2.5, 3.1], [0.8, 2.0, 3.3]
    interval = ttest_rel(values, base).confidence_interval(0.95)
    expected = f"+0.1667 ({interval.low:+.4f} to {interval.high:+.4f})"
    assert ablate.difference(values, base) == expected


@pytest.mark.parametrize("stage", ["adapt", "decoder"])
def test_the_published_table_is_that_of_the_published_figures(stage):
    figures = json.loads((ROOT / "docs" / "ablations" / f"{stage}.json").read_text())
    for row in figures.values():
        del row["seconds"]
    assert ablate.table(figures) in (ROOT / "docs" / "benchmarks.md").read_text()


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


def test_another_base_comes_first(options, trained):
    options = ablate.Options(configs=options.configs, base=options.configs[1], seeds=1, out=options.out)
    assert ablate.table(ablate.measure(options)).splitlines()[2:] == [
        "| less | 0.5000 |  |",
        "| base | 1.0000 | +0.5000 |",
    ]


def test_a_workdir_of_another_configuration_is_an_error(options, trained):
    ablate.measure(options)
    options.configs[1].write_text(CONFIG.format(0.25))
    with pytest.raises(ValueError, match=r"less/seed_0 is of another configuration:\n.*kl_weight: 0.5 -> 0.25"):
        ablate.measure(options)


def test_a_run_that_fails_ends_it(options, monkeypatch):
    monkeypatch.setattr(ablate.subprocess, "run", lambda command: SimpleNamespace(returncode=3))
    with pytest.raises(ValueError, match=r"base.py with seed 0 ended with exit status 3"):
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
