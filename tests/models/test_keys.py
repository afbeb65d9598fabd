"""Our full-size networks have the tensors of the published checkpoints: every name, every shape, none more."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from tvt_jax.model_folder import count_parameters
from tvt_jax.models.keys import from_torch, to_torch, tree_from_torch, tree_to_torch
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig

KEYS = Path(__file__).parents[3] / "shared" / "reference" / "keys"
TVT_UNET = UNet2DConditionConfig(
    block_out_channels=(320, 320, 640, 1280, 1280),
    down_block_types=(*(CROSS_ATTENTION_BLOCK,) * 4, PLAIN_BLOCK),
    attention_heads=(5, 5, 10, 20, 20),
)
VAE_D4 = AutoencoderKLConfig(block_out_channels=(128, 256, 256), mid_block=False)


def tensors_of(model: nn.Module) -> dict[str, np.ndarray]:
    """A state dict with the right shapes that takes no memory."""
    image = jnp.zeros((1, 16, 16, 3))
    conditions = (jnp.zeros((1, 16, 16, 4)), jnp.zeros(1, int), jnp.zeros((1, 1, 1024)))
    inputs = (image,) if isinstance(model, AutoencoderKL) else conditions
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    return tree_to_torch(jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes))


@pytest.mark.parametrize(
    ("model", "file", "millions"),
    [
        (AutoencoderKL(VAE_D4), "vae_d4", 15.16),
        (AutoencoderKL(AutoencoderKLConfig()), "sd21_vae", 83.65),
        (UNet2DConditionModel(TVT_UNET), "tvt_unet", 895.96),
        pytest.param(UNet2DConditionModel(UNet2DConditionConfig()), "sd21_unet", 865.91, marks=pytest.mark.slow),
    ],
    ids=["VAE-D4", "SD 2.1 VAE", "TVT UNet", "SD 2.1 UNet"],
)
def test_full_size_networks_have_the_published_tensors(model: nn.Module, file: str, millions: float):
    tensors = tensors_of(model)
    assert count_parameters(tensors) / 1e6 == pytest.approx(millions, abs=0.005)
    if not (KEYS / f"{file}.json").exists():
        pytest.skip("the lists of published tensors are not here")
    published = {name: tuple(shape) for name, shape in json.loads((KEYS / f"{file}.json").read_text()).items()}
    assert {name: tensor.shape for name, tensor in tensors.items()} == published


@pytest.mark.parametrize("file", ["vae_d4", "sd21_vae", "sd21_unet", "tvt_unet", "sd21_text_encoder"])
def test_published_names_survive_the_round_trip(file: str):
    if not (KEYS / f"{file}.json").exists():
        pytest.skip("the lists of published tensors are not here")
    for name, shape in json.loads((KEYS / f"{file}.json").read_text()).items():
        tensor = np.broadcast_to(np.float32(0), shape)
        back, array = to_torch(*from_torch(name, tensor))
        assert (back, array.shape) == (name, tensor.shape)


@pytest.mark.parametrize(
    ("name", "shape", "path", "transposed"),
    [
        ("down_blocks.0.resnets.1.conv1.weight", (2, 3, 4, 5), "down_blocks_0/resnets_1/conv1/kernel", (4, 5, 3, 2)),
        ("attn1.to_out.0.weight", (2, 3), "attn1/to_out_0/kernel", (3, 2)),
        ("ff.net.0.proj.bias", (2,), "ff/net_0/proj/bias", (2,)),
        ("time_embedding.linear_1.weight", (2, 3), "time_embedding/linear_1/kernel", (3, 2)),
        ("conv_norm_out.weight", (2,), "conv_norm_out/scale", (2,)),
        ("embeddings.token_embedding.weight", (2, 3), "embeddings/token_embedding/embedding", (2, 3)),
    ],
)
def test_leaf_rules(name: str, shape: tuple[int, ...], path: str, transposed: tuple[int, ...]):
    tensor = np.arange(np.prod(shape)).reshape(shape)
    ours, array = from_torch(name, tensor)
    assert ("/".join(ours), array.shape) == (path, transposed)
    assert flatten_dict(tree_from_torch({name: tensor})).keys() == {ours}
    np.testing.assert_array_equal(to_torch(ours, array)[1], tensor)
