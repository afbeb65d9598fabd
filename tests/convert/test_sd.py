"""The original single file at full size, by tensors that take no memory."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from convert import sd
from convert.ldm import TEXT_ENCODER, UNET, VAE, text_tensors, unet_name, vae_name
from tests.convert import ldm_names

KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"


def published(file):
    return json.loads((KEYS / f"{file}.json").read_text())


def full_size():
    """Every tensor in the shape it has in the file, where the VAE's attention is of 1x1 convolutions."""
    vae, unet, text = published("sd21_vae"), published("sd21_unet"), published("sd21_text_encoder")
    shapes = {VAE + name: vae[vae_name(name)] for name in ldm_names.vae()}
    shapes |= {name: [*shape, 1, 1] for name, shape in shapes.items() if ".attn_1." in name and len(shape) == 2}
    shapes |= {UNET + name: unet[unet_name(name)] for name in ldm_names.unet()}
    for name in ldm_names.text_encoder():
        renamed = list(text_tensors(name, np.zeros(3)))
        if renamed:
            first, *rest = text[renamed[0]]
            shapes[TEXT_ENCODER + name] = [len(renamed) * first, *rest]
    return {name: np.broadcast_to(np.float16(0), shape) for name, shape in shapes.items()}


@pytest.mark.slow
def test_the_single_file_is_stable_diffusion(tmp_path, monkeypatch):
    if not KEYS.exists():
        pytest.skip("the lists of published tensors are not here")
    monkeypatch.setattr(sd, "read_tensors", lambda path: full_size())
    monkeypatch.setattr(sd, "read_metadata", lambda path: {})
    model = sd.StableDiffusion(tmp_path / "v2-1_512-ema-pruned.ckpt")
    for component, file in (
        (model.vae, "sd21_vae"),
        (model.unet, "sd21_unet"),
        (model.text_encoder, "sd21_text_encoder"),
    ):
        expected = {name: tuple(shape) for name, shape in published(file).items()}
        assert {name: tensor.shape for name, tensor in component.tensors.items()} == expected
    assert model.tokenizer is None


def test_another_single_file_is_refused(tmp_path):
    save_file({"encoder.weight": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors is not a Stable Diffusion checkpoint"):
        sd.StableDiffusion(tmp_path / "a.safetensors")
