import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel as Reference
from flax.traverse_util import flatten_dict
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer

from tests.models.torch_reference import arrays, assert_agrees, assert_close, peft_trees, randomised, state_of
from tvt_jax.models.lora import fuse_lora, init_lora, low_rank_kernel, scale_lora
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig, UNet2DConditionModel

RANK, ALPHA = 4, 8
# The layers that the released UNet carries LoRA on: every projection and every convolution.
TARGETS = (
    "to_q to_k to_v to_out.0 conv conv1 conv2 conv_shortcut conv_in conv_out proj_in proj_out ff.net.0.proj ff.net.2"
).split()
CONFIG = UNet2DConditionConfig(
    block_out_channels=(8, 12),
    down_block_types=(CROSS_ATTENTION_BLOCK, PLAIN_BLOCK),
    attention_heads=(2, 2),
    layers_per_block=1,
    cross_attention_dim=6,
    norm_num_groups=4,
)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """A small UNet with PEFT's LoRA on all targets, everything random."""
    unet = Reference.from_config(CONFIG.to_json())
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS))
    return randomised(unet)


def test_branch_and_its_gradients_are_pefts(reference: Reference):
    def ours(variables, *inputs):
        lora = scale_lora(variables["lora"], ALPHA / RANK)
        return UNet2DConditionModel(CONFIG).apply({"params": variables["params"], "lora": lora}, *inputs)

    sample, text = arrays((2, 6, 5, 4), (2, 3, 6))
    assert_agrees(
        ours,
        reference,
        sample,
        np.array([1, 500], np.int32),
        text,
        tolerance=1e-4,
        call=lambda *inputs: reference(*inputs).sample,
        tree=peft_trees,
    )


def test_every_target_carries_it(reference: Reference):
    """Whatever PEFT finds by its targets, `init_lora` finds by our paths, with the same shapes."""
    variables = peft_trees(state_of(reference))

    def selects(path: tuple[str, ...]) -> bool:
        return not {"time_emb_proj", "time_embedding"} & set(path)

    lora = jax.eval_shape(lambda: init_lora(jax.random.key(0), variables["params"], RANK, selects))
    assert _shapes(lora) == _shapes(variables["lora"])


def test_fused_kernels_are_pefts_merged_ones(reference: Reference):
    variables = peft_trees(state_of(reference))
    fused = flatten_dict(fuse_lora(variables["params"], variables["lora"], ALPHA / RANK), sep="/")
    layers = [layer for layer in reference.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer.merge()
    merged = flatten_dict(peft_trees(state_of(reference))["params"], sep="/")
    for layer in layers:
        layer.unmerge()
    assert fused.keys() == merged.keys()
    for name, expected in merged.items():
        assert_close(np.asarray(fused[name]), expected, 1e-5)
    changed = [
        name for name in merged if not np.array_equal(merged[name], flatten_dict(variables["params"], sep="/")[name])
    ]
    assert len(changed) == len(layers)


def test_starts_as_nothing_and_is_drawn_as_peft_draws_it():
    kernel = np.zeros((3, 3, 50, 20), np.float32)
    params = {"conv": {"kernel": kernel, "bias": np.zeros(20)}, "norm": {"scale": np.ones(50)}}
    lora = init_lora(jax.random.key(0), params, RANK)
    assert flatten_dict(lora).keys() == {("conv", "lora_A"), ("conv", "lora_B")}
    lora_a, lora_b = lora["conv"]["lora_A"], lora["conv"]["lora_B"]
    assert lora_a.shape == (3, 3, 50, RANK)
    assert not lora_b.any()
    drawn = torch.nn.init.kaiming_uniform_(torch.empty(RANK, 50, 3, 3), a=5**0.5)
    assert np.abs(lora_a).max() == pytest.approx(drawn.abs().max().item(), rel=0.02)
    assert lora_a.std() == pytest.approx(drawn.std().item(), rel=0.1)  # 1800 draws each
    assert not np.asarray(low_rank_kernel(lora_a, lora_b)).any()


def test_layers_do_not_share_their_draw():
    params = {name: {"kernel": jnp.zeros((6, 5))} for name in ("to_q", "to_k")}
    lora = init_lora(jax.random.key(0), params, RANK)
    assert not np.array_equal(lora["to_q"]["lora_A"], lora["to_k"]["lora_A"])


def _shapes(tree: dict) -> dict[tuple[str, ...], tuple[int, ...]]:
    return {path: leaf.shape for path, leaf in flatten_dict(tree).items()}
