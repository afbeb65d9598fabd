import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel as Reference
from diffusers.models.embeddings import get_timestep_embedding

from tests.models.torch_reference import arrays, assert_agrees, assert_close, quick_jit, random_params, randomised
from tvt_jax.models.unet import (
    CROSS_ATTENTION_BLOCK,
    PLAIN_BLOCK,
    UNet2DConditionConfig,
    UNet2DConditionModel,
    timestep_embedding,
)

NETWORK = 1e-4
SD_LIKE = UNet2DConditionConfig(
    block_out_channels=(8, 12, 16, 16),
    attention_heads=(1, 2, 4, 4),
    layers_per_block=1,
    cross_attention_dim=6,
    norm_num_groups=4,
)
TVT_LIKE = UNet2DConditionConfig(
    block_out_channels=(8, 8, 12, 16, 16),
    down_block_types=(*(CROSS_ATTENTION_BLOCK,) * 4, PLAIN_BLOCK),
    attention_heads=(1, 1, 2, 4, 4),
    layers_per_block=1,
    cross_attention_dim=6,
    norm_num_groups=4,
)
MIXED = UNet2DConditionConfig(
    block_out_channels=(8, 12),
    down_block_types=(PLAIN_BLOCK, CROSS_ATTENTION_BLOCK),
    attention_heads=(3, 2),  # the first does not divide its level's channels, nor needs to
    layers_per_block=2,
    cross_attention_dim=6,
    norm_num_groups=4,
)
TWO_LEVELS = UNet2DConditionConfig(
    block_out_channels=(8, 12),
    down_block_types=(CROSS_ATTENTION_BLOCK, PLAIN_BLOCK),
    attention_heads=(2, 3),
    layers_per_block=1,
    cross_attention_dim=6,
    norm_num_groups=4,
)
# The UNet of stabilityai/stable-diffusion-2-1-base, as its file is written.
SD21_CONFIG = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.10.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "upcast_attention": False,
    "use_linear_projection": True,
}


@pytest.mark.parametrize(
    ("config", "size"),
    [pytest.param(SD_LIKE, (8, 16), marks=pytest.mark.slow), (TVT_LIKE, (17, 14)), (MIXED, (7, 5))],
    ids=["four levels", "five levels, odd", "mixed, odd"],
)
def test_unet(config: UNet2DConditionConfig, size: tuple[int, int]):
    reference, model = randomised(Reference.from_config(config.to_json())), UNet2DConditionModel(config)
    sample, text = arrays((2, *size, 4), (2, 5, 6))
    assert_agrees(
        lambda params, *inputs: model.apply({"params": params}, *inputs),
        reference,
        sample,
        np.array([1, 750], np.int32),
        text,
        tolerance=NETWORK,
        call=lambda *inputs: reference(*inputs).sample,
    )


@pytest.mark.parametrize("features", [8, 320])
def test_timestep_embedding(features: int):
    timesteps = np.array([0, 1, 250, 999], np.int32)
    expected = get_timestep_embedding(torch.tensor(timesteps), features, flip_sin_to_cos=True, downscale_freq_shift=0)
    # Both in float32; the cosine of an angle up to 999 is only as good as the angle: 999 x 2^-24.
    assert_close(timestep_embedding(jnp.asarray(timesteps), features), expected.numpy(), 1e-4)


def test_windows_as_large_as_the_image_change_nothing_and_smaller_ones_do():
    inputs = tuple(map(jnp.asarray, (*arrays((1, 8, 8, 4)), [1], *arrays((1, 5, 6)))))
    variables = {"params": random_params(UNet2DConditionModel(TWO_LEVELS), *inputs)}

    def predict(windows: tuple[int | None, ...] | None) -> np.ndarray:
        config = dataclasses.replace(TWO_LEVELS, attention_windows=windows)
        return np.asarray(quick_jit(UNet2DConditionModel(config).apply)(variables, *inputs))

    full = predict(None)
    assert_close(predict((8, 4)), full, 1e-6)  # the lower level is 4x4 pixels
    assert np.abs(predict((4, None)) - full).max() > 1e-3


def test_bfloat16_computes_about_the_same_and_answers_in_float32():
    inputs = tuple(map(jnp.asarray, (*arrays((1, 8, 8, 4)), [1], *arrays((1, 5, 6)))))
    variables = {"params": random_params(UNet2DConditionModel(TWO_LEVELS), *inputs)}
    models = (UNet2DConditionModel(TWO_LEVELS, dtype) for dtype in ("float32", "bfloat16"))
    exact, rough = (quick_jit(model.apply)(variables, *inputs) for model in models)
    assert rough.dtype == jnp.float32
    assert_close(rough, np.asarray(exact), 0.1)  # 8 bits of mantissa, 40 layers


def test_reads_the_config_of_sd21():
    assert UNet2DConditionConfig.from_json(SD21_CONFIG) == UNet2DConditionConfig()


@pytest.mark.parametrize("config", [SD_LIKE, TVT_LIKE, MIXED, UNet2DConditionConfig()])
def test_reads_what_it_writes_and_what_diffusers_writes(config: UNet2DConditionConfig):
    assert UNet2DConditionConfig.from_json(config.to_json()) == config
    with torch.device("meta"):
        theirs = Reference.from_config(config.to_json()).config
    assert UNet2DConditionConfig.from_json(theirs) == config


def test_windows_and_a_single_number_of_heads_are_read():
    data = {**MIXED.to_json(), "attention_head_dim": 2, "attention_windows": [16, None]}
    config = UNet2DConditionConfig.from_json(data)
    assert config.attention_heads == (2, 2)
    assert config.windows == (16, None)
    assert UNet2DConditionConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "field",
    [
        {"_class_name": "UNet2DModel"}, {"use_linear_projection": False}, {"dual_cross_attention": True},
        {"only_cross_attention": [True] * 3}, {"num_class_embeds": 10}, {"class_embed_type": "timestep"},
        {"addition_embed_type": "text_time"}, {"resnet_time_scale_shift": "scale_shift"}, {"norm_eps": 1e-6},
        {"transformer_layers_per_block": [1, 2, 10]}, {"layers_per_block": [2, 2, 2]}, {"cross_attention_dim": None},
        {"mid_block_type": None}, {"up_block_types": ["UpBlock2D"] * 3}, {"out_channels": 8}, {"encoder_hid_dim": 768},
        {"block_out_channels": 4}, {"norm_num_groups": 0}, {"in_channels": -1}, {"attention_head_dim": 0},
        {"attention_head_dim": None}, {"attention_head_dim": [5, 0, 20]}, {"down_block_types": 3},
        {"down_block_types": [["CrossAttnDownBlock2D"]]}, {"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 3},
    ],
    ids=lambda field: next(iter(field)),
)  # fmt: skip
def test_refuses_what_it_cannot_build(field: dict):
    with pytest.raises(ValueError, match=next(iter(field))):
        UNet2DConditionConfig.from_json({**MIXED.to_json(), **field})


def test_absent_linear_projection_means_convolutions_as_in_sd15():
    data = {name: value for name, value in MIXED.to_json().items() if name != "use_linear_projection"}
    with pytest.raises(ValueError, match="use_linear_projection"):
        UNet2DConditionConfig.from_json(data)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"attention_heads": (5, 10, 20)}, "differ in length"),
        ({"attention_heads": (5, 10, 20, 3)}, r"attention_heads: \[\(1280, 3\)\]"),
        ({"block_out_channels": (320, 640, 1280, 1290)}, "1290.* norm_num_groups=32"),
        ({"down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D")}, "AttnDownBlock2D"),
    ],
)
def test_refuses_a_shape_that_does_not_fit_together(field: dict, message: str):
    with pytest.raises(ValueError, match=message):
        UNet2DConditionConfig(**field)
