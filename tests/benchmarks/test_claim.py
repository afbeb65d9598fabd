"""The claim's arms: what each is trained for, what is run, and the table; with a stand-in for every command."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import claim
from configs.claim import ARMS, STAGES
from tvt_jax.train.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def commands(monkeypatch):
    """Stands in for train.py, eval.py and benchmarks.fine_structure; returns the commands, in order."""
    given: list[list[str]] = []

    def run(what, program, *words):
        given.append([program, *map(str, words)])
        options = dict(word.split("=", 1) for word in given[-1][1:] if "=" in word)
        if program == "train.py":
            workdir = Path(options["--workdir"])
            (workdir / "model").mkdir(parents=True, exist_ok=True)
            (workdir / "metrics.jsonl").write_text(json.dumps({"kind": "train", "seconds": 1800.0}) + "\n")
            return
        out = Path(given[-1][given[-1].index("--out") + 1])
        seed = int(out.parent.parent.name.removeprefix("seed_"))
        if program == "eval.py":
            out.write_text(json.dumps({"mean": {"lpips-vgg": {"mean": 0.4 + 0.1 * seed, "count": 2}}}))
            return
        name = given[-1][given[-1].index("--model") + 1]
        better = 0.1 if "transfer" in name else 0.0
        measures = {"capped": {"rates": {"all": 0.5 - better}}, "recalled": {"rates": {"all": 0.6}}}
        texts = {"English": {"methods": {name: measures}}}
        texture = {name: {"correlation": [1.0, 0.9, 0.8, 0.2 + better, 0.0]}}
        out.with_suffix(".json").write_text(json.dumps({"text": texts, "texture": texture}))

    monkeypatch.setattr(claim, "run", run)
    monkeypatch.setattr(claim, "step_flops", lambda config: 1e9)
    monkeypatch.setattr(claim, "gmacs", lambda model: 12.0)
    return given


def test_every_arm_is_trained_and_measured_once(commands, tmp_path):
    options = claim.Options(out=tmp_path, seeds=2, unit=1e10)
    figures = claim.measure(options)
    stages = sum(len(of_arm) for of_arm in STAGES.values())
    assert [sum(words[0] == program for words in commands) for program in ("train.py", "eval.py", "-m")] == [
        2 * stages,
        2 * len(ARMS),
        2 * len(ARMS),
    ]
    expected = {"lpips-vgg": 0.5, "capped, English": 0.4, "recalled, English": 0.6, "hours": 1.5, "GMACs": 12}
    assert figures["transfer"][1] == pytest.approx(expected | {"texture 1/16-1/8": 0.8, "texture 1/8-1/4": 0.3})
    for words in commands:
        if words[0] == "train.py":
            config, *changes = (word.removeprefix("--config=") for word in words[1:])
            changed = load_config(config, [change for change in changes if change.startswith("--config.")])
            arm, stage = config.rpartition(":")[2].split("/")
            assert changed.steps == pytest.approx(10 * STAGES[arm][stage], abs=0.5)
    scored = len(commands)
    assert claim.measure(options) == figures
    assert all(words[0] == "train.py" for words in commands[scored:])


def test_each_arm_may_compute_as_much():
    assert {sum(STAGES[arm].values()) for arm in ARMS} == {2.0}


def test_the_table_tells_the_difference_to_the_transfer_by_seed(commands, tmp_path):
    figures = claim.measure(claim.Options(out=tmp_path, seeds=2, unit=1e10))
    lines = claim.table(figures).splitlines()
    assert lines[0] == "|  | 8x | transfer | scratch | wide |"
    assert "| capped, English | 0.5 ± 0 (+0.1) | 0.4 ± 0 | 0.5 ± 0 (+0.1) | 0.5 ± 0 (+0.1) |" in lines
    assert any(line.startswith("| lpips-vgg | 0.45 ± 0.071 (+0) | 0.45 ± 0.071 |") for line in lines)


def test_flops_are_counted_without_reading_anything():
    """The same step, of another learning rate: a stage's share is of what it computes."""
    found = claim.step_flops(load_config(f"{ROOT}/configs/claim.py:before/vae"))
    assert found == claim.step_flops(load_config(f"{ROOT}/configs/claim.py:before/vae", ["--config.seed=3"]))
    assert 1e9 < found < 1e12 and np.isfinite(found)
