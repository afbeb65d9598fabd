import numpy as np
import pytest
import torch
from diffusers.models import attention as diffusers
from diffusers.models import attention_processor
from diffusers.models.transformers import transformer_2d

from proofs.attention_memory import temporary_bytes
from tests.models.torch_reference import arrays, assert_agrees, randomised
from tvt_jax.models.attention import Attention, BasicTransformerBlock, SpatialAttention, Transformer2DModel

BLOCK = 1e-5


@pytest.mark.parametrize(("context", "bias"), [(None, True), (10, False)], ids=["self", "cross"])
def test_attention(context: int | None, bias: bool):
    reference = attention_processor.Attention(12, cross_attention_dim=context, heads=3, dim_head=4, bias=bias)
    inputs = arrays((2, 9, 12), (2, 5, 10))[: 2 if context else 1]
    assert_agrees(
        lambda params, *inputs: Attention(3, bias).apply({"params": params}, *inputs),
        randomised(reference),
        *inputs,
        tolerance=BLOCK,
    )


def test_spatial_attention():
    reference = attention_processor.Attention(
        8, heads=1, dim_head=8, norm_num_groups=4, eps=1e-6, bias=True, residual_connection=True
    )
    assert_agrees(
        lambda params, x: SpatialAttention(4).apply({"params": params}, x),
        randomised(reference),
        *arrays((2, 3, 5, 8)),
        tolerance=BLOCK,
    )


def test_spatial_transformer():
    reference = transformer_2d.Transformer2DModel(
        2, 4, 8, num_layers=1, norm_num_groups=4, cross_attention_dim=6, use_linear_projection=True
    )
    assert_agrees(
        lambda params, x, text: Transformer2DModel(2, norm_num_groups=4).apply({"params": params}, x, text),
        randomised(reference),
        *arrays((2, 3, 5, 8), (2, 7, 6)),
        tolerance=BLOCK,
        call=lambda x, text: reference(x, text, return_dict=False)[0],
    )


def mirrored(size: int, window: int) -> np.ndarray:
    """Rows of an image continued by its mirror image up to whole windows."""
    return np.pad(np.arange(size), (0, -size % window), mode="symmetric")


@pytest.mark.parametrize("size", [(8, 12), (6, 7), (1, 9), (3, 4)], ids=str)
def test_windowed_attention_is_full_attention_under_a_mask(size: tuple[int, int]):
    window, (height, width) = 4, size
    rows, columns = mirrored(height, window), mirrored(width, window)
    if height <= window and width <= window:  # a single window is the whole image, and is not continued
        rows, columns = np.arange(height), np.arange(width)
    block = np.arange(len(rows))[:, None] // window * 100 + np.arange(len(columns)) // window
    same = torch.tensor(block.reshape(-1, 1) == block.reshape(1, -1))
    mask = torch.zeros(same.shape, dtype=torch.float64).masked_fill(~same, -torch.inf).expand(2, -1, -1)
    reference = randomised(diffusers.BasicTransformerBlock(8, 2, 4, cross_attention_dim=6))

    def masked(x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        x = x[:, :, rows][..., columns]
        tokens = reference(x.flatten(2).mT, attention_mask=mask, encoder_hidden_states=text)
        return tokens.mT.reshape(x.shape)[:, :, :height, :width]

    assert_agrees(
        lambda params, x, text: BasicTransformerBlock(2, window).apply({"params": params}, x, text),
        reference,
        *arrays((2, *size, 8), (2, 7, 6)),
        tolerance=BLOCK,
        call=masked,
    )


@pytest.mark.slow
def test_the_scores_of_16384_tokens_never_exist_at_once():
    """All at once they would be 5.4 GB in float32; with gradients, twice that at least."""
    assert temporary_bytes(with_gradient=False) < 0.4e9
    assert temporary_bytes(with_gradient=True) < 1.5e9
