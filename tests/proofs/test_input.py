"""The table of the input, on made-up photos, and its yardstick: the published arithmetic does what ours does."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from proofs import input as benchmark
from proofs import published_degradation
from tvt_jax.data.degradation import REAL_ESRGAN, TVT, Parameters, apply, draw
from tvt_jax.data.operators import Noise, jpeg


def photo_like(side: int) -> np.ndarray:
    """Grey, since the published JPEG repeats the colours of a 2x2 block where the real one interpolates."""
    noise = np.random.default_rng(0).standard_normal((side, side, 1)).repeat(3, axis=-1)
    smooth = sum(ndimage.gaussian_filter(noise, (sigma, sigma, 0)) * sigma for sigma in (1, 2, 4, 8))
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def without_noise_and_drift(drawn: Parameters) -> Parameters:
    """Bicubic throughout and the first size kept: what differs otherwise is in docs/degradation.md."""
    rounds = {
        name: dataclasses.replace(
            getattr(drawn, name),
            noise=Noise(kind="gaussian", strength=0.0, grey=False),
            resize=dataclasses.replace(getattr(drawn, name).resize, factor=1.0, interpolation="bicubic"),
        )
        for name in ("first", "second")
    }
    return dataclasses.replace(drawn, final_interpolation="bicubic", **rounds)


def test_the_yardstick_does_what_we_do(monkeypatch: pytest.MonkeyPatch):
    def real_jpeg(x: torch.Tensor, qualities: torch.Tensor) -> torch.Tensor:
        images = x.permute(0, 2, 3, 1).contiguous().numpy()
        decoded = [jpeg(image, int(quality)) for image, quality in zip(images, qualities, strict=True)]
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()

    monkeypatch.setattr(published_degradation, "jpeg", real_jpeg)
    image = photo_like(96)
    for seed in range(8):
        drawn = without_noise_and_drift(draw((TVT, REAL_ESRGAN)[seed % 2], np.random.default_rng(seed)))
        published = published_degradation.degrade(np.stack([image, image]), [drawn, drawn])
        assert published.shape == (2, 24, 24, 3) and published.dtype == np.uint8
        ours = apply(image, drawn, np.random.default_rng(0)).astype(float)
        # Equal but for a level that rounds to its other side and is spread by a JPEG.
        assert np.abs(published - ours).mean() < 0.3


@pytest.mark.parametrize("quality", [30, 60, 95])
def test_the_yardsticks_jpeg_is_jpeg(quality: int):
    image = photo_like(56)  # not a whole number of blocks
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    ours = published_degradation.jpeg(x, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy() * 255
    # Its rounding with a gradient is off by up to an eighth of a step.
    real = np.asarray(Image.open(stream)).astype(float)
    assert np.abs(ours - real).mean() < max(0.5 * np.abs(real - image).mean(), 0.6)


def test_noise_has_its_strength():
    x = torch.full((2, 3, 64, 64), 0.5)
    torch.manual_seed(0)
    gaussian, poisson = (
        published_degradation.add_noise(x, [Noise(kind=kind, strength=strength, grey=grey) for grey in (True, False)])
        for kind, strength in (("gaussian", 10.0), ("poisson", 0.1))
    )
    # 4,096 or 12,288 samples: the standard error of a deviation is about 1 %.
    assert gaussian.std((1, 2, 3)).numpy() * 255 == pytest.approx(10, rel=0.05)
    # One level is one count when white.
    assert poisson.std((1, 2, 3)).numpy() == pytest.approx(0.1 * np.sqrt(128 / 255), rel=0.05)
    assert (gaussian[0, 0] == gaussian[0, 1]).all() and (gaussian[1, 0] != gaussian[1, 1]).any()


def test_the_table_has_both_presets(tmp_path: Path):
    for index in range(3):
        Image.fromarray(photo_like(72)).save(tmp_path / f"{index}.png")
    options = benchmark.Options(images=tmp_path, crop=64, batch=2, rounds=2, steps=(0.0, 0.01), waits=2)
    figures = benchmark.measure(options)
    for row in figures.values():
        assert row["ratio"] == pytest.approx(row["ours"] / row["published"])
        assert 0 <= row["waiting_0.01s"] <= row["waiting_0s"] == 1
    lines = benchmark.table(figures).splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["TVT", "REAL_ESRGAN"]
