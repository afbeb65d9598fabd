import json
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from tests.models.torch_reference import arrays, assert_close, quick_jit
from tests.models.torch_tagger import SMALL, blip_layer, random_ram, run_blip_layer, tag_logits
from tvt_jax.models.keys import tree_from_torch, tree_to_torch
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.tagger import RAM, DecoderLayer, TaggerConfig

PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "keys" / "ram_inference_keys.json"


def test_a_decoder_layer_is_blips():
    ram = random_ram(SMALL)
    tags, image = arrays((2, 20, SMALL.hidden_size), (2, 10, SMALL.embedding_size))
    parts = blip_layer({name: torch.tensor(x) for name, x in ram.items()}, SMALL, 1)
    with torch.no_grad():
        theirs = run_blip_layer(parts, torch.tensor(tags).double(), torch.tensor(image).double()).numpy()
    params = tree_from_torch(ram)["tagging_head"]["encoder"]["layer_1"]
    ours = quick_jit(DecoderLayer(SMALL).apply)({"params": params}, tags, image)
    assert_close(ours, theirs, 1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_logits_are_those_of_transformers_modules(seed: int):
    ram = random_ram(SMALL, seed)
    (images,) = arrays((3, 96, 96, 3), seed=seed)
    theirs = tag_logits(ram, images, SMALL)
    ours = quick_jit(RAM(SMALL).apply)({"params": tree_from_torch(ram)}, images)
    assert theirs.std(0).max() > 0.01  # they depend on the image
    assert np.abs(ours - theirs).max() <= 1e-4 * theirs.std()


def test_the_full_size_network_has_the_published_tensors():
    shapes = tensor_shapes(TaggerConfig())
    assert sum(np.prod(shape) for shape in shapes.values()) == 212_117_045
    if not PUBLISHED.exists():
        pytest.skip("the list of published tensors is not here")
    assert shapes == {name: tuple(shape) for name, shape in json.loads(PUBLISHED.read_text()).items()}


def test_names_come_back_as_they_were():
    ram = random_ram(SMALL)
    back = tree_to_torch(tree_from_torch(ram))
    assert sorted(back) == sorted(ram)
    assert all(np.array_equal(back[name], ram[name]) for name in ram)


def test_reads_the_config_that_it_writes():
    for config in (SMALL, TaggerConfig()):
        assert TaggerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    "fields", [{"num_tags": None}, {"hidden_size": 10}, {"swin": {}}, {"swin": None}, {"_class_name": "Other"}]
)
def test_refuses_what_it_cannot_build(fields: dict):
    with pytest.raises(ValueError, match=next(iter(fields)) if fields.get("swin", 0) == 0 else "Swin"):
        TaggerConfig.from_json({**TaggerConfig().to_json(), **fields})


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="48x48 pixels, not 96"):
        jax.eval_shape(RAM(SMALL).init, jax.random.key(0), np.zeros((1, 48, 48, 3), np.float32))
