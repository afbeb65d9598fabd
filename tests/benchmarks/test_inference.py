"""What benchmarks.inference makes of two processes."""

from pathlib import Path

import pytest

from benchmarks import inference
from tests.convert.small import UNET, VAE, VAE_D4

TINY = Path(inference.ROOT) / "tvt_jax" / "pretrained" / "tiny"


@pytest.mark.slow
def test_both_make_the_same_picture(tmp_path: Path):
    """From the same weights, to float32's rounding through three networks."""
    result = inference.measure(inference.Options(work=tmp_path, model=TINY, side=32, rounds=1, cores=2))
    assert result["difference"] < 1e-4
    assert set(result["figures"]) == {"ours", "pytorch"}
    for figures in result["figures"].values():
        assert all(figure > 0 for figure in figures.values())
        assert figures["whole"] >= sum(figures[part] for part in inference.PARTS) * 0.999


@pytest.mark.slow
@pytest.mark.parametrize("method", ["osediff", "pisasr", "tvt-without-attention"])
def test_both_run_each_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: inference.Method):
    """As the card says, at small size."""
    vae = VAE_D4 if method == "tvt-without-attention" else VAE
    monkeypatch.setitem(inference.METHODS, method, (vae, UNET, inference.METHODS[method][2]))
    result = inference.measure(inference.Options(work=tmp_path, method=method, side=8, rounds=1))
    assert result["model"] == method and result["difference"] < 1e-4


def test_the_fastest_round_counts():
    rounds = [
        {"encode": 1.0, "unet": 9.0, "decode": 2.0, "processors": 20.0, "memory": 3e9},
        {"encode": 2.0, "unet": 7.0, "decode": 2.0, "processors": 19.0, "memory": 4e9},
    ]
    fastest = {"encode": 1.0, "unet": 7.0, "decode": 2.0, "whole": 11.0, "processors": 19.0, "memory": 4e9}
    assert inference.fastest(rounds) == fastest
    table = inference.table({"ours": fastest, "pytorch": {**fastest, "whole": 22.0}})
    assert "| whole | 11.00 s | 22.00 s | 0.50 |" in table
    assert "| memory | 4.00 GB | 4.00 GB | 1.00 |" in table


def test_a_contender_that_fails_is_an_error(tmp_path: Path):
    options = inference.Options(work=tmp_path)
    with pytest.raises(ValueError, match="ended with status 1"):
        inference.run(inference.start("nobody", TINY, options))


def test_the_processor_has_a_name():
    assert inference.processor()
