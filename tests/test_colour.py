import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from tvt_jax.colour import adain, low_frequencies, wavelet


def pictures(size=(37, 23)):
    rng = np.random.default_rng(0)
    return tuple(rng.uniform(-1, 1, (*size, 3)).astype(np.float32) * (0.8, 0.5, 0.3) for _ in range(2))


def to_torch(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].double()


def torch_adain(result, reference):
    """StableSR's adaptive_instance_normalization, on its [0, 1] scale."""

    def statistics(image):
        flat = image.reshape(1, 3, -1)
        return flat.mean(2)[..., None, None], (flat.var(2) + 1e-5).sqrt()[..., None, None]

    result, reference = (to_torch(image) / 2 + 0.5 for image in (result, reference))
    (mean, deviation), (reference_mean, reference_deviation) = statistics(result), statistics(reference)
    fixed = (result - mean) / deviation * reference_deviation + reference_mean
    return (fixed * 2 - 1)[0].permute(1, 2, 0).numpy()


def torch_low(image, levels):
    kernel = torch.outer(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.25])).double()
    for level in range(levels):
        padded = functional.pad(image, (2**level,) * 4, mode="replicate")
        image = functional.conv2d(padded, kernel.expand(3, 1, 3, 3), groups=3, dilation=2**level)
    return image


def torch_wavelet(result, reference):
    """StableSR's wavelet_reconstruction: high frequencies gathered level by level, then the other's low ones."""
    image, high = to_torch(result), 0
    for level in range(5):
        kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).double() / 16
        padded = functional.pad(image, (2**level,) * 4, mode="replicate")
        low = functional.conv2d(padded, kernel.expand(3, 1, 3, 3), groups=3, dilation=2**level)
        high, image = high + image - low, low
    return (high + torch_low(to_torch(reference), 5))[0].permute(1, 2, 0).numpy()


# 1e-5: float32 against float64, over five blurs.
@pytest.mark.parametrize("size", [(37, 23), (1, 40), (2, 2)])
@pytest.mark.parametrize("compiled", [lambda fix: fix, jax.jit], ids=["numpy", "jax"])
@pytest.mark.parametrize(("ours", "reference"), [(adain, torch_adain), (wavelet, torch_wavelet)])
def test_agrees_with_torch(ours, reference, compiled, size):
    result, source = pictures(size)
    np.testing.assert_allclose(compiled(ours)(result, source), reference(result, source), atol=1e-5)


def test_blur_keeps_a_constant():
    flat = np.full((9, 5, 3), 0.25, np.float32)
    np.testing.assert_array_equal(low_frequencies(flat, 5), flat)


@pytest.mark.parametrize("fix", [adain, wavelet])
def test_one_pixel_gets_the_input_s_color(fix):
    result, reference = np.full((1, 1, 3), 0.5, np.float32), np.full((1, 1, 3), -0.25, np.float32)
    np.testing.assert_allclose(fix(result, reference), reference, atol=1e-6)


def test_adain_undoes_a_gain_and_an_offset():
    image, _ = pictures()
    # 1e-3: the 1e-5 added to the variance (here 0.03 to 0.2) doesn't scale with the gain.
    np.testing.assert_allclose(adain(image * 0.7 + 0.2, image), image, atol=1e-3)
