import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from proofs import micro
from tests.stages import published, small
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.inherit import align_vae, inherit


def test_equal_paths_and_shapes_are_taken_over():
    params = {"a": {"kernel": np.zeros((2, 3))}, "b": {"kernel": np.zeros((2, 3))}, "c": np.zeros(1)}
    source = {"a": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}, "b": {"kernel": np.ones((3, 2))}, "d": np.ones(1)}
    taken = inherit(params, source)
    assert jax.tree.map(np.max, taken) == {"a": {"kernel": 1}, "b": {"kernel": 0}, "c": 0}


def test_levels_of_equal_image_resolution_meet():
    """With equal widths all of a 4x VAE comes from an 8x one, counted from the image on both sides."""
    d8, d4 = small.random_vae(micro.VAE_D8, 0), small.random_vae(micro.VAE_D4, 1)
    taken = inherit(d4, align_vae(d8, micro.VAE_D8, micro.VAE_D4))
    for part, source in (
        *((("encoder", name),) * 2 for name in ("conv_in", "down_blocks_0", "conv_out")),
        *((("decoder", f"up_blocks_{i}"), ("decoder", f"up_blocks_{i + 1}")) for i in range(2)),
    ):
        theirs = flatten_dict(d8[source[0]][source[1]])
        for path, leaf in flatten_dict(taken[part[0]][part[1]]).items():
            np.testing.assert_array_equal(leaf, theirs[path], err_msg=str((part, path)))
    before, after = flatten_dict(d4), flatten_dict(taken)
    assert [path for path in before if np.array_equal(before[path], after[path])] == []


@published.needed
def test_what_the_published_shapes_take_over():
    """SD's VAE is wider at the latent, so these blocks start from nothing; the dtype marks what is taken over."""
    d8_config = AutoencoderKLConfig()
    d4_config = AutoencoderKLConfig(block_out_channels=(128, 256, 256), mid_block=False)
    source = align_vae(published.tree("sd21_vae", jnp.bfloat16), d8_config, d4_config)
    taken = flatten_dict(inherit(published.tree("vae_d4"), source), sep="/")
    fresh = {path for path, leaf in taken.items() if leaf.dtype != jnp.bfloat16}
    decoder = flatten_dict(published.tree("vae_d4")["decoder"]["up_blocks_0"], sep="/")
    encoder = flatten_dict(published.tree("vae_d4")["encoder"]["down_blocks_2"], sep="/")
    expected = {f"decoder/up_blocks_0/{path}" for path in decoder} | {
        *("decoder/conv_in/kernel", "decoder/conv_in/bias", "decoder/up_blocks_1/resnets_0/conv1/kernel"),
        *(f"decoder/up_blocks_1/resnets_0/norm1/{leaf}" for leaf in ("scale", "bias")),
        *("encoder/conv_norm_out/scale", "encoder/conv_norm_out/bias", "encoder/conv_out/kernel"),
        *(f"encoder/down_blocks_2/{path}" for path in encoder),
    } - {f"encoder/down_blocks_2/resnets_0/norm1/{leaf}" for leaf in ("scale", "bias")}
    assert fresh == expected
    assert len(taken) - len(fresh) == 100
