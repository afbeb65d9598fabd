"""What a stage starts from is what it is configured for, or it says so."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from proofs import micro
from tests.stages import small
from tvt_jax import model_folder
from tvt_jax.model_folder import ModelCard, ModelFolder, write_model
from tvt_jax.models.shapes import param_shapes
from tvt_jax.stages.sources import prompts, read_source


@pytest.fixture
def folder(tmp_path):
    def write(vae, unet):
        write_model(
            tmp_path / "model",
            ModelFolder(card=ModelCard(), vae_config=micro.VAE_D4, vae=vae, unet_config=micro.PRIOR, unet=unet),
        )
        return str(tmp_path / "model")

    return write


def test_what_a_stage_starts_from_is_what_it_expects(folder):
    path = folder(small.random_vae(micro.VAE_D4, 0), small.random_unet(micro.PRIOR, 1))
    read = read_source(path, vae=micro.VAE_D4, unet=micro.PRIOR)
    assert jax.tree.map(np.shape, read.unet) == jax.tree.map(lambda leaf: leaf.shape, param_shapes(micro.PRIOR))
    with pytest.raises(ValueError, match=r"holds .*, but the stage is configured for"):
        read_source(path, vae=replace(micro.VAE_D4, norm_num_groups=2))


def test_tensors_that_do_not_fit_their_config(folder):
    vae = small.random_vae(micro.VAE_D4, 0)
    vae["decoder"]["conv_in"]["kernel"] = np.zeros((3, 3, 4, 9), np.float32)
    del vae["encoder"]["conv_out"]["bias"]
    path = folder(vae, small.random_unet(micro.PRIOR, 1))
    with pytest.raises(ValueError, match=r"vae: 2 tensors .* decoder/conv_in/kernel \(\(3, 3, 4, 9\) in the file"):
        read_source(path, vae=micro.VAE_D4)


def test_only_what_is_asked_for_is_read(folder, monkeypatch):
    path = folder(small.random_vae(micro.VAE_D4, 0), small.random_unet(micro.PRIOR, 1))
    monkeypatch.setattr(model_folder, "_read_unet", None)
    assert read_source(path, vae=micro.VAE_D4).unet is None


def test_prompts_keep_their_text(tmp_path):
    card = ModelCard(prompt="sharp", negative_prompt="blurred")
    embeddings = {"prompt_embedding": np.ones((2, 3)), "negative_prompt_embedding": np.zeros((2, 3))}
    found = prompts(ModelFolder(card=card, **embeddings))
    assert {name: prompt.text for name, prompt in found.items()} == {"prompt": "sharp", "negative_prompt": "blurred"}
    assert [leaf.sum() for leaf in jax.tree.leaves(found)] == [0, 6]  # the text is no leaf
