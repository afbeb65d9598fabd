from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.torch_reference import arrays, assert_close, quick_jit
from tests.models.torch_tagger import SMALL, image_tokens, random_ram, swin_model
from tvt_jax.models.keys import tree_from_torch
from tvt_jax.models.swin import SwinConfig, SwinTransformer, relative_positions

# Windows that lie in the first two grids (16 and 8) and hold the third.
OTHER = SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=(3, 2, 1), num_heads=(1, 2, 4), window_size=4)


@pytest.mark.parametrize("config", [SMALL.swin, OTHER], ids=["four stages", "three stages"])
def test_swin_is_transformers(config: SwinConfig):
    tensors = random_ram(replace(SMALL, swin=config))
    tensors = {
        name.removeprefix("visual_encoder."): x for name, x in tensors.items() if name.startswith("visual_encoder.")
    }
    (images,) = arrays((2, config.image_size, config.image_size, 3))
    ours = quick_jit(SwinTransformer(config).apply)({"params": tree_from_torch(tensors)}, images)
    network = swin_model({name: torch.tensor(x).double() for name, x in tensors.items()}, config)
    with torch.no_grad():
        theirs = image_tokens(network, torch.tensor(images).double().permute(0, 3, 1, 2)).numpy()
    assert theirs.std() > 0.3
    assert_close(ours, theirs, 2e-5)  # float32 through eight blocks


def test_the_windows_positions_count_the_rows_first():
    index = relative_positions(12)
    assert (index[0, 0], index[0, 1], index[0, 12], index[143, 0]) == (264, 263, 241, 528)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (2, 2)}, "as many stages"),
        ({"image_size": 100}, "cannot be halved to 4 grids"),
        ({"window_size": 5}, "window_size 5 does not divide the grid of 96"),
        ({"num_heads": (5, 12, 24, 48)}, "192 channels cannot be split into num_heads=5"),
    ],
)
def test_refuses_what_is_no_swin(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SwinConfig(**fields)


def test_the_published_size_has_144_tokens_of_1536():
    config = SwinConfig()
    assert (config.grid(3), config.window(3), config.width) == (12, 12, 1536)
    assert np.prod([config.grid(3)] * 2) == 144
