"""Names of the original single file against diffusers' own conversion, and against the published lists."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.loaders import single_file_utils

from convert.ldm import EMA, TEXT_ENCODER, UNET, VAE, averaged_name, check_ldm, split_ldm
from convert.mapped import Refusal
from tests.convert import ldm_names

KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"
UNET_CONFIG = {
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
VAE_CONFIG = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}


def numbered(prefix, names, shape=(3,)):
    """Tensors that are told apart by their numbers."""
    return {f"{prefix}{name}": np.full(shape, i, np.float32) for i, name in enumerate(names)}


@pytest.fixture(scope="module")
def checkpoint():
    tensors = numbered(VAE, ldm_names.vae()) | numbered(UNET, ldm_names.unet())
    return tensors | numbered(TEXT_ENCODER, ldm_names.text_encoder(), (6,)) | {"betas": np.zeros(1000, np.float32)}


@pytest.mark.parametrize(
    ("part", "keys", "without"),
    [("vae", "sd21_vae", ()), ("unet", "sd21_unet", ()), ("text_encoder", "sd21_text_encoder", ("position_ids",))],
)
def test_all_names_are_the_published_ones(checkpoint, part, keys, without):
    if not (KEYS / f"{keys}.json").exists():
        pytest.skip("the lists of published tensors are not here")
    published = {name for name in json.loads((KEYS / f"{keys}.json").read_text()) if not name.endswith(without or "?")}
    assert set(split_ldm(checkpoint)[part]) == published


@pytest.mark.parametrize(
    ("part", "theirs"),
    [
        ("vae", lambda tensors: single_file_utils.convert_ldm_vae_checkpoint(tensors, VAE_CONFIG)),
        ("unet", lambda tensors: single_file_utils.convert_ldm_unet_checkpoint(tensors, UNET_CONFIG)),
    ],
)
def test_names_go_where_diffusers_takes_them(checkpoint, part, theirs):
    expected = theirs({name: torch.from_numpy(tensor) for name, tensor in checkpoint.items()})
    ours = split_ldm(checkpoint)[part]
    assert set(ours) == set(expected)
    assert {name: tensor.ravel()[0] for name, tensor in ours.items()} == {
        name: tensor.flatten()[0].item() for name, tensor in expected.items()
    }


def test_the_text_encoder_is_cut_into_three_projections_and_23_layers(checkpoint):
    joint = np.arange(6, dtype=np.float32)
    name = f"{TEXT_ENCODER}transformer.resblocks.3.attn.in_proj_bias"
    ours = split_ldm(checkpoint | {name: joint})["text_encoder"]
    parts = [ours[f"text_model.encoder.layers.3.self_attn.{x}_proj.bias"] for x in "qkv"]
    np.testing.assert_array_equal(parts, joint.reshape(3, 2))
    assert {int(name.split(".")[3]) for name in ours if ".layers." in name} == set(range(23))


def test_averaged_weights_are_preferred(checkpoint):
    name = "input_blocks.1.0.in_layers.2.weight"
    averaged = EMA + f"diffusion_model.{name}".replace(".", "")
    assert averaged == averaged_name(f"{UNET}{name}")
    unet = split_ldm(checkpoint | {averaged: np.full(3, -1.0, np.float32)})["unet"]
    assert (unet["down_blocks.0.resnets.0.conv1.weight"] == -1).all()
    assert (unet["down_blocks.0.resnets.0.conv1.bias"] >= 0).all()


def test_averaged_weights_that_belong_to_none_are_refused(checkpoint):
    name = f"{UNET}input_blocks.1.0.in_layers.2.weight"
    keys = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    good = {averaged_name(name): checkpoint[name], f"{EMA}decay": np.ones(1), keys: np.zeros((320, 1024))}
    check_ldm(checkpoint | good)
    compiled = {averaged_name(name.replace(UNET, f"{UNET}_orig_mod.")): checkpoint[name]}
    with pytest.raises(Refusal, match=r"has the averaged weight 'model_ema\.diffusion_model_orig_modinput_blocks10in_"):
        check_ldm(checkpoint | good | compiled)


def test_other_checkpoints_are_told_apart(checkpoint):
    keys = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    check_ldm(checkpoint | {keys: np.zeros((320, 1024))})
    with pytest.raises(Refusal, match="is not a Stable Diffusion checkpoint"):
        check_ldm({"encoder.conv_in.weight": np.zeros(3)})
    for width, what in ((768, "Stable Diffusion 1"), (2048, "Stable Diffusion XL"), (640, "another size")):
        with pytest.raises(Refusal, match=rf"reads texts of width {width} \({what}\), and Stable Diffusion 2 of 1024"):
            check_ldm(checkpoint | {keys: np.zeros((320, width))})


def test_the_text_encoder_of_sd_turbo_has_another_prefix(checkpoint):
    turbo = {name.replace(TEXT_ENCODER, "conditioner.embedders.0.model."): x for name, x in checkpoint.items()}
    assert split_ldm(turbo)["text_encoder"].keys() == split_ldm(checkpoint)["text_encoder"].keys()
