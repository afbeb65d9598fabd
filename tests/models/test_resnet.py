import pytest
from diffusers.models import resnet as diffusers

from tests.models.torch_reference import arrays, assert_agrees, randomised
from tvt_jax.models.resnet import UNET_DOWNSAMPLE, VAE_DOWNSAMPLE, Downsample2D, ResnetBlock2D, Upsample2D

BLOCK = 1e-5


@pytest.mark.parametrize("features", [8, 12], ids=["same width", "wider"])
def test_resnet_of_the_vae(features: int):
    reference = diffusers.ResnetBlock2D(in_channels=8, out_channels=features, temb_channels=None, groups=4, eps=1e-6)
    assert_agrees(
        lambda params, x: ResnetBlock2D(features, 4).apply({"params": params}, x),
        randomised(reference),
        *arrays((2, 5, 7, 8)),
        tolerance=BLOCK,
        call=lambda x: reference(x, None),
    )


def test_resnet_of_the_unet():
    reference = diffusers.ResnetBlock2D(in_channels=8, out_channels=12, temb_channels=6, groups=4, eps=1e-5)
    assert_agrees(
        lambda params, x, time: ResnetBlock2D(12, 4, 1e-5).apply({"params": params}, x, time),
        randomised(reference),
        *arrays((2, 5, 7, 8), (2, 6)),
        tolerance=BLOCK,
    )


@pytest.mark.parametrize(("padding", "theirs"), [(VAE_DOWNSAMPLE, 0), (UNET_DOWNSAMPLE, 1)], ids=["vae", "unet"])
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_downsampler(padding, theirs: int, size: tuple[int, int]):
    assert_agrees(
        lambda params, x: Downsample2D(padding).apply({"params": params}, x),
        randomised(diffusers.Downsample2D(4, use_conv=True, padding=theirs, name="op")),
        *arrays((2, *size, 4)),
        tolerance=BLOCK,
    )


@pytest.mark.parametrize("size", [None, (9, 13)])
def test_upsampler(size: tuple[int, int] | None):
    reference = randomised(diffusers.Upsample2D(4, use_conv=True))
    assert_agrees(
        lambda params, x: Upsample2D().apply({"params": params}, x, size),
        reference,
        *arrays((2, 5, 7, 4)),
        tolerance=BLOCK,
        call=lambda x: reference(x, size),
    )
