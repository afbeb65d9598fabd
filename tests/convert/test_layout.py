import numpy as np
import pytest

from convert.layout import fit, unwrapped
from convert.sd import modern_name
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.vae import AutoencoderKLConfig

SHAPES = {"conv.weight": (4, 2, 3, 3), "conv.bias": (4,), "to_q.weight": (4, 4), "proj.weight": (4, 4, 1, 1)}


def tensors(**changes):
    return {name: np.ones(shape, np.float16) for name, shape in SHAPES.items()} | changes


def test_tensors_that_fit_are_the_same_views():
    given = tensors()
    fitted = fit(given, SHAPES, "a.ckpt")
    assert list(fitted) == list(SHAPES)
    assert all(fitted[name] is given[name] for name in SHAPES)


def test_a_linear_layer_may_be_a_1x1_convolution_and_the_other_way_round():
    changed = {"to_q.weight": np.arange(16.0).reshape(4, 4, 1, 1), "proj.weight": np.arange(16.0).reshape(4, 4)}
    fitted = fit(tensors(**changed), SHAPES, "a.ckpt")
    for name in changed:
        assert fitted[name].shape == SHAPES[name]
        np.testing.assert_array_equal(fitted[name].ravel(), np.arange(16))


def test_every_difference_is_told_at_once():
    given = tensors(
        **{
            "conv.weight": np.ones((4, 2, 1, 1), np.float32),
            "to_q.weight": np.ones((8, 2), np.float32),
            "proj.weight": np.ones((4, 4, 1, 1), np.int64),
            "other.weight": np.ones(3),
            "position_ids": np.arange(3),
        }
    )
    del given["conv.bias"]
    with pytest.raises(ValueError) as error:
        fit(given, SHAPES, "a.ckpt", ignored=("position_ids",))
    assert str(error.value) == (
        "a.ckpt does not hold this network: 1 missing: conv.bias; 1 unknown: other.weight; 2 of another shape: "
        "conv.weight (4, 2, 1, 1), not (4, 2, 3, 3), to_q.weight (8, 2), not (4, 4); "
        "1 not floating-point: proj.weight int64"
    )


def test_long_lists_are_cut():
    with pytest.raises(ValueError, match="20 unknown: x0, x1, x2, x3, x4, x5, x6, x7 and 12 more"):
        fit(tensors() | {f"x{i}": np.ones(1) for i in range(20)}, SHAPES, "a.ckpt")


def test_old_names_of_the_attention():
    old = "encoder.mid_block.attentions.0.proj_attn.weight"
    assert modern_name(old) == "encoder.mid_block.attentions.0.to_out.0.weight"
    assert modern_name("decoder.mid_block.attentions.0.query.bias") == "decoder.mid_block.attentions.0.to_q.bias"
    assert modern_name("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight").endswith("attn1.to_q.weight")


def test_shapes_are_those_of_the_network():
    shapes = tensor_shapes(AutoencoderKLConfig(block_out_channels=(32, 64), layers_per_block=1))
    assert shapes["encoder.down_blocks.0.resnets.0.conv1.weight"] == (32, 32, 3, 3)
    assert shapes["decoder.mid_block.attentions.0.to_q.weight"] == (64, 64)


def test_names_of_wrapped_networks_are_plain_again():
    one, two = np.ones(1), np.ones(2)
    given = {"module._orig_mod.conv_in.weight": one, "down_blocks.0._orig_mod.conv.bias": two, "n_averaged": one}
    plain = unwrapped(given, "a.ckpt")
    assert list(plain) == ["conv_in.weight", "down_blocks.0.conv.bias"]
    assert plain["conv_in.weight"] is one
    with pytest.raises(ValueError, match=r"a\.ckpt holds x twice, once within a compiled or parallel network"):
        unwrapped({"x": one, "module.module.x": two}, "a.ckpt")


def test_names_cannot_change_the_terminal():
    with pytest.raises(ValueError, match=r"1 unknown: \\x1b\]0;x\\x07\\n$"):
        fit(tensors() | {"\x1b]0;x\x07\n": np.ones(1)}, SHAPES, "a.ckpt")
