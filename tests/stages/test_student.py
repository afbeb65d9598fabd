from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from proofs import micro
from tests.stages import published, small
from tvt_jax.models.keys import from_torch
from tvt_jax.models.lora import init_lora
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig
from tvt_jax.stages.student import add_level, init_student, is_new, shift_levels, split_new, takes_lora

LEVELS = 5  # of the published student


def test_a_level_is_added_above_the_first():
    student = add_level(UNet2DConditionConfig(), CROSS_ATTENTION_BLOCK)
    assert student == UNet2DConditionConfig(
        block_out_channels=(320, 320, 640, 1280, 1280),
        down_block_types=(*(CROSS_ATTENTION_BLOCK,) * 4, PLAIN_BLOCK),
        attention_heads=(5, 5, 10, 20, 20),
    )
    windowed = add_level(replace(micro.PRIOR, attention_windows=(None, 4)), CROSS_ATTENTION_BLOCK, window=8)
    assert windowed.attention_windows == (8, None, 4)


@pytest.fixture(scope="module")
def prior():
    return small.random_unet(micro.PRIOR, 0)


@pytest.fixture(scope="module")
def student(prior):
    return jax.jit(lambda prior: init_student(jax.random.key(1), micro.STUDENT, prior))(prior)


def test_the_students_start(prior, student):
    """Inherited levels are the prior's; the new one has its neighbour's weights, where it has a neighbour."""
    source = flatten_dict(prior, sep="/")
    places = {"down_blocks_0": "down_blocks_0", "down_blocks_1": "down_blocks_0", "down_blocks_2": "down_blocks_1"}
    places |= {"up_blocks_2": "up_blocks_1"}
    for path, leaf in flatten_dict(student, sep="/").items():
        first, rest = path.split("/", 1)
        origin = source.get(f"{places.get(first, first)}/{rest}")
        assert (origin is None) == path.startswith("up_blocks_1/upsamplers_0/")
        assert origin is None or np.array_equal(origin, leaf), path


def test_new_and_inherited_parameters_are_all(prior, student):
    new, inherited = split_new(student, micro.STUDENT)
    assert set(new) | set(inherited) == set(flatten_dict(student))
    assert {path[0] for path in new} == {"conv_in", "conv_out", "down_blocks_0", "up_blocks_1", "up_blocks_2"}
    assert {path[1] for path in new if path[0] == "up_blocks_1"} == {"upsamplers_0"}
    shifted = flatten_dict(shift_levels(prior))
    assert set(inherited) == {path for path in shifted if path[0] not in ("conv_in", "conv_out")}


@published.needed
def test_every_published_tensor_has_its_place():
    student = flatten_dict(published.tree("tvt_unet"))
    shifted = flatten_dict(shift_levels(published.tree("sd21_unet")))
    assert len(shifted) == 686
    assert {path: leaf.shape for path, leaf in shifted.items()} == {
        path: student[path].shape for path in shifted if path in student
    }
    new, inherited = split_new(unflatten_dict(student), add_level(UNet2DConditionConfig(), CROSS_ATTENTION_BLOCK))
    ends = {path for path in new if path[0] in ("conv_in", "conv_out")}
    assert set(shifted) == set(inherited) | ends
    assert sum(new[path].size for path in set(new) - ends) == pytest.approx(30.05e6, abs=5e3)  # published


@published.needed
def test_what_the_published_shapes_start_from():
    """The inherited tensors are marked by their dtype."""
    config = add_level(UNet2DConditionConfig(), CROSS_ATTENTION_BLOCK)
    prior = published.tree("sd21_unet", jnp.bfloat16)
    params = jax.eval_shape(lambda prior: init_student(jax.random.key(0), config, prior), prior)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, published.tree("tvt_unet"))
    fresh = {path for path, leaf in flatten_dict(params, sep="/").items() if leaf.dtype != jnp.bfloat16}
    first_resnet = ("norm1/scale", "norm1/bias", "conv1/kernel", "conv_shortcut/kernel")  # SD's sees 960 channels
    assert fresh == {
        *(f"up_blocks_3/upsamplers_0/conv/{leaf}" for leaf in ("kernel", "bias")),
        *(f"up_blocks_4/resnets_0/{leaf}" for leaf in first_resnet),
    }


@published.needed
def test_trained_tensors_are_the_releases():
    """Of its 333 LoRA layers those 256 on inherited levels, of the same shapes; and the same tensors trained whole."""
    pickled = published.shapes("model_tvt_pkl")
    theirs, whole = {}, set()
    for name, shape in pickled.items():
        module, lora, rest = name.partition(".lora_")
        if not lora:
            whole.add(_path(module.replace(".base_layer", ""), shape))
        elif not is_new(path := _path(f"{module}.weight", shape)[:-1], LEVELS):
            kernel = tuple(shape[axis] for axis in ((2, 3, 1, 0) if len(shape) == 4 else (1, 0)))
            theirs[(*path, f"lora_{rest[0]}")] = kernel
    new, inherited = split_new(published.tree("tvt_unet"), add_level(UNet2DConditionConfig(), CROSS_ATTENTION_BLOCK))
    assert set(new) == whole
    ours = jax.eval_shape(
        lambda: init_lora(jax.random.key(0), unflatten_dict(inherited), 4, lambda path: takes_lora(path, LEVELS))
    )
    assert {path: leaf.shape for path, leaf in flatten_dict(ours).items()} == theirs
    assert len(theirs) == 2 * 256


def _path(name, shape):
    return from_torch(name, np.broadcast_to(np.float32(0), shape))[0]
