"""A model small enough to run in milliseconds, with random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.inference import Upscaler
from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.unet import UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig

FLOAT32 = jnp.dtype("float32")
VAE_CONFIG = AutoencoderKLConfig(
    block_out_channels=(8, 16), norm_num_groups=4, layers_per_block=1, mid_block=False, scaling_factor=0.5
)
UNET_CONFIG = UNet2DConditionConfig(
    block_out_channels=(8, 16),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    layers_per_block=1,
    attention_heads=(1, 2),
    cross_attention_dim=8,
    norm_num_groups=4,
)


@pytest.fixture(autouse=True, scope="session")
def compilation_cache(tmp_path_factory):
    """Keeps the user's own cache out of it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def small_programs(monkeypatch):
    """Small pictures in small programs: tests need not wait for more."""
    monkeypatch.setattr("tvt_jax.inference.plan.SMALLEST_WHOLE", 32)


@pytest.fixture(scope="session")
def folder() -> ModelFolder:
    rng = np.random.default_rng(0)

    def random(shapes):
        return jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes)

    key = jax.random.key(0)
    vae = jax.eval_shape(AutoencoderKL(VAE_CONFIG, FLOAT32).init, key, jnp.zeros((1, 16, 16, 3)))
    latent, steps, text = jnp.zeros((1, 8, 8, 4)), jnp.zeros(1, int), jnp.zeros((1, 3, 8))
    unet = jax.eval_shape(UNet2DConditionModel(UNET_CONFIG, FLOAT32).init, key, latent, steps, text)
    return ModelFolder(
        card=ModelCard(prompt="a photo"),
        vae_config=VAE_CONFIG,
        vae=random(vae["params"]),
        unet_config=UNET_CONFIG,
        unet=random(unet["params"]),
        prompt_embedding=rng.normal(size=(3, 8)).astype(np.float32),
    )


class Enlarger(Upscaler):
    """Repeats pixels: what happens to files doesn't ask what networks make of pictures."""

    def __init__(self):
        self.card, self.unet = ModelCard(), "stands for one"

    def upscale(self, image, scale=None, **options):
        rows, columns = (
            np.arange(side) * length // side
            for side, length in zip(self.result_size(*image.shape[:2], scale), image.shape[:2], strict=True)
        )
        return np.ascontiguousarray(image[rows][:, columns])

    def check_fits(self, height, width):
        pass


@pytest.fixture
def enlarger() -> Upscaler:
    return Enlarger()


@pytest.fixture(scope="session")
def upscaler(folder) -> Upscaler:
    return Upscaler(folder)
