"""Large pictures: tiles that cover them once, and metrics that do not change by them."""

import numpy as np
import pytest

from tvt_jax.metrics import tiles
from tvt_jax.metrics.dists import dists
from tvt_jax.metrics.lpips import lpips


@pytest.mark.parametrize("length", [16, 1023, 1024, 1025, 2049, 5000])
def test_inner_parts_are_the_whole_once(length):
    covered = np.zeros(length, int)
    for outer, (start, stop) in tiles._split(length):
        covered[outer.start + start : outer.stop if stop is None else outer.start + stop] += 1
        assert outer.start % 16 == 0 and outer.stop - outer.start <= 1024 + 2 * 128 + 16
    assert (covered == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("metric", [lpips, lambda *pair: lpips(*pair, net="vgg"), dists])
def test_in_tiles_a_metric_is_the_same(metric, monkeypatch):
    generator = np.random.default_rng(0)
    smooth = generator.normal(128, 40, (12, 9, 3)).repeat(28, axis=0).repeat(27, axis=1)[:331, :241]
    truth, image = (np.clip(smooth + generator.normal(0, 15, smooth.shape), 0, 255).astype(np.uint8) for _ in range(2))
    whole = metric(image, truth)
    monkeypatch.setattr(tiles, "LARGEST", 1)
    monkeypatch.setattr(tiles, "_TILE", 160)
    # The same float32 features, and their means in another order.
    assert metric(image, truth) == pytest.approx(whole, rel=2e-5)
    monkeypatch.setattr(tiles, "_HALO", 16)
    # Where tiles see too little, the metric shows it.
    assert metric(image, truth) != pytest.approx(whole, rel=2e-5)
