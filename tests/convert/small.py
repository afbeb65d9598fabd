"""Stable Diffusion at small size: shapes, numbers and files."""

import numpy as np
import torch
from safetensors.numpy import save_file

from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.models.text_encoder import CLIPTextConfig
from tvt_jax.models.unet import CROSS_ATTENTION_BLOCK, PLAIN_BLOCK, UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig

VAE = AutoencoderKLConfig(block_out_channels=(4, 8), norm_num_groups=4, layers_per_block=1)
VAE_D4 = AutoencoderKLConfig(block_out_channels=(4, 8), norm_num_groups=4, layers_per_block=1, mid_block=False)
UNET = UNet2DConditionConfig(
    block_out_channels=(4, 8),
    down_block_types=(CROSS_ATTENTION_BLOCK, PLAIN_BLOCK),
    attention_heads=(2, 2),
    layers_per_block=1,
    cross_attention_dim=6,
    norm_num_groups=4,
)
TEXT_ENCODER = CLIPTextConfig(
    vocab_size=520, hidden_size=6, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2
)
PARTS = {"vae": VAE, "unet": UNET, "text_encoder": TEXT_ENCODER}


def random_tensors(config, seed=0):
    """Numbers that float16 holds exactly."""
    generator = np.random.default_rng(seed)
    draw = lambda shape: generator.integers(-512, 512, shape).astype(np.float32) / 1024  # noqa: E731
    return {name: draw(shape) for name, shape in tensor_shapes(config).items()}


def save(file, tensors, dtype=np.float32):
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.ascontiguousarray(tensor, dtype) for name, tensor in tensors.items()}
    if file.suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, file)
