"""The benchmark of accelerators, on this processor."""

import json

import pytest

from benchmarks import accelerator
from benchmarks.accelerator import Options, cases, tables


def test_a_row_that_fails_is_told_and_not_the_end(monkeypatch, tmp_path, capsys):
    found = {"attention:float32": {"machine": "a chip", "rows": {"9 x 9": {"ms": 0.5, "TFLOP/s": 12345.6}}}}
    found["attention:bfloat16"] = {"failed": "exit status 1: no room"}
    monkeypatch.setattr(accelerator, "run", lambda case, *_: found[case])
    monkeypatch.setattr(accelerator.tyro, "cli", lambda *_, **__: Options(out=tmp_path / "a", only=("attention",)))
    with pytest.raises(ValueError, match="1 of 2 rows failed: attention:bfloat16"):
        accelerator.main()
    assert json.loads((tmp_path / "a.json").read_text()) == found
    text = (tmp_path / "a.md").read_text()
    assert "On a chip." in text and "| float32 9 x 9 | 0.5 | 1.235e+04 |" in text
    assert "attention:bfloat16 failed: exit status 1: no room" in text


def test_a_process_that_fails_says_why(tmp_path):
    found = accelerator.run("attention:float99", True, tmp_path)
    assert found["failed"].startswith("exit status 1: ") and "float99" in found["failed"]


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--only speed: rows are of attention, parity"):
        cases(Options(out=tmp_path, only=("speed",)))


@pytest.mark.slow
def test_all_rows_in_tiny_form(tmp_path, monkeypatch):
    """On a processor the device is its own reference, so that nothing differs."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    *_, figures = accelerator.measure(Options(out=tmp_path / "a", tiny=True))
    assert list(figures) == cases(Options(out=tmp_path, tiny=True))
    assert not [case for case in figures if "failed" in figures[case]], figures
    for case in ("parity:networks", "parity:gradients"):
        for row in figures[case]["rows"].values():
            assert set(row.values()) == {0.0}
    assert len(figures["parity:networks"]["rows"]) == 9 and len(figures["parity:gradients"]["rows"]) == 3
    for stage in ("decoder", "encoder", "adapt"):
        row = figures[f"stage:{stage}"]["rows"][""]
        assert row["images/s a device"] == pytest.approx(2 * row["steps/s"]) and row["TFLOP/s a device"] > 0
    assert "as in training" in str(tables(figures)) and figures["upscale:96:bfloat16"]["rows"][""]["s"] > 0
