"""The stage of a whole VAE: where it starts."""

from pathlib import Path

import jax
import numpy as np
import pytest

from proofs import micro
from tests.stages.small import random_vae
from tvt_jax.model_folder import ModelCard, ModelFolder, write_model
from tvt_jax.stages.vae import VAEStage

SMALL = micro.VAE_D4
LARGER = micro.VAE_D8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(
        tmp_path / "model", ModelFolder(card=ModelCard(source="a test"), vae_config=SMALL, vae=random_vae(SMALL, 0))
    )
    return tmp_path / "model"


def test_goes_on_from_a_vae_that_is_there(folder: Path):
    stage = VAEStage(vae=SMALL, source=str(folder), adversarial_weight=0.0)
    frozen = stage.load()
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree) for tree in (frozen, stage.abstract())]
    assert shapes[0] == shapes[1]
    jax.tree.map(
        np.testing.assert_array_equal, stage.init(jax.random.key(0), frozen).params["vae"], random_vae(SMALL, 0)
    )


def test_a_vae_of_another_shape_is_refused(folder: Path):
    with pytest.raises(ValueError, match=str(folder)):
        VAEStage(vae=LARGER, source=str(folder)).load()
