"""The card tells what ran where, and for how long."""

import json
from pathlib import Path

from tools.model_card import write_card


def write_json(path: Path, *entries: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def test_a_run_that_moved_is_told_machine_by_machine(tmp_path):
    write_json(tmp_path / "data/photos/manifest.json", {"photos": [{"licence": "MIT"}]})
    write_json(tmp_path / "data/text/text.json", {"families": ["A", "B"]})
    run = tmp_path / "runs" / "decoder"
    write_json(run / "config.json", {"data": {"crop": 64, "batch": 16}})
    write_json(
        run / "metrics.jsonl",
        {"kind": "train", "step": 10, "seconds": 60.0, "machine": "an accelerator", "loss": 1.0},
        {"kind": "evaluate", "step": 10, "seconds": 60.0, "machine": "an accelerator", "dists": 0.5},
        {"kind": "train", "step": 20, "seconds": 240.0, "machine": "2 cores", "loss": 1.0},
        {"kind": "evaluate", "step": 20, "seconds": 300.0, "machine": "2 cores", "dists": 0.123},
    )
    write_card(tmp_path / "data", tmp_path / "runs", tmp_path, ["decoder"], "--budget 1")
    card = (tmp_path / "README.md").read_text()
    assert "| decoder | 20 | 16 x 64x64 | 1 min on an accelerator, 4 min on 2 cores | dists 0.123 |" in card
    assert "`python tools/pretrain.py --budget 1`" in card and "MIT 1" in card
