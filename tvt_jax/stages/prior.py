"""Train a latent diffusion UNet on a VAE's latents: the stand-in for SD's UNet at small size."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from tvt_jax.diffusion import NoiseSchedule
from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.shapes import initial_params, param_shapes
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.images import enlarge
from tvt_jax.stages.sources import Prompt, read_source
from tvt_jax.stages.training import Training
from tvt_jax.train.state import Batch, Metrics, State

TEXTS = {"prompt": "clean, high-resolution, 8k", "negative_prompt": "blurry, noisy, low resolution"}
TOKENS = 2


def fixed_prompts(features: int) -> dict[str, Prompt]:
    """Make two fixed, nearly orthogonal embeddings: without a text encoder, a prompt names a distribution."""
    generator = np.random.default_rng(0)
    return {
        name: Prompt(generator.standard_normal((TOKENS, features), dtype=np.float32), text)
        for name, text in TEXTS.items()
    }


@dataclass(frozen=True, kw_only=True)
class PriorStage(Training):
    """Noise prediction on latents of clean images under one prompt and of degraded ones under another.

    Thus guidance against the negative prompt means, at small size too, what it means for SD: away from degraded.

    Attributes:
        unet: shape of the UNet.
        source: model folder of the VAE.
        vae: its shape.
        negative_share: share of the images that are taken degraded.
    """

    unet: UNet2DConditionConfig
    source: str
    vae: AutoencoderKLConfig
    negative_share: float = 0.5

    averaged: ClassVar[str] = "unet"
    degrades: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_equal("latent_channels", "vae", "unet")

    @property
    def multiple(self) -> int:
        """Pixels that the sides of a crop must be a multiple of."""
        return self.vae.downsampling * 2 ** (len(self.unet.block_out_channels) - 1)

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of what `evaluate` measures."""
        return "noise_error", "latent_deviation"

    def load(self) -> PyTree:
        """Read the VAE and make the prompts' embeddings."""
        vae = read_source(self.source, vae=self.vae).vae
        return {"vae": vae, **fixed_prompts(self.unet.cross_attention_dim)}

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` reads, without reading the model folder."""
        prompts = jax.eval_shape(lambda: fixed_prompts(self.unet.cross_attention_dim))
        return {"vae": param_shapes(self.vae), **prompts}

    def init(self, rng: PRNGKeyArray, frozen: PyTree) -> State:
        """Make the state of step 0."""
        return self.state({"unet": initial_params(rng, self.unet)})

    def gradients(
        self, state: State, frozen: PyTree, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[dict[str, PyTree], Metrics]:
        """Give the UNet's gradient."""

        def loss(unet: PyTree) -> Array:
            return self._errors(unet, frozen, batch, rng, jax.random.fold_in(rng, 1)).mean()

        value, grads = jax.value_and_grad(loss)(state.params["unet"])
        return {"unet": grads}, {"noise_error": value}

    def _errors(self, unet: PyTree, frozen: PyTree, batch: PyTree, rng: PRNGKeyArray, rng_time: PRNGKeyArray) -> Array:
        """Return the squared error of the predicted noise, a value each image."""
        rng_share, rng_posterior, rng_noise = jax.random.split(rng, 3)
        latent, text = self._encode(frozen, batch, rng_share, rng_posterior)
        timesteps = jax.random.randint(rng_time, latent.shape[:1], 0, NoiseSchedule().steps)
        noise = jax.random.normal(rng_noise, latent.shape)
        noisy = NoiseSchedule().add_noise(latent, noise, timesteps)
        predicted = self.compute.unet(self.unet).apply({"params": unet}, noisy, timesteps, text)
        return jnp.square(predicted - noise).mean((1, 2, 3))

    def _encode(
        self, frozen: PyTree, batch: PyTree, rng_share: PRNGKeyArray, rng_posterior: PRNGKeyArray
    ) -> tuple[Array, Array]:
        """Encode clean and degraded images to scaled latents; give the embeddings that say which they are."""
        clean = from_uint8(batch["hr"])
        degraded = enlarge(from_uint8(batch["lr"]), clean.shape[1] // batch["lr"].shape[1])
        negative = jax.random.bernoulli(rng_share, self.negative_share, clean.shape[:1])
        image = jnp.where(negative[:, None, None, None], degraded, clean)
        text = jnp.where(negative[:, None, None], frozen["negative_prompt"].embedding, frozen["prompt"].embedding)
        vae = self.compute.vae(self.vae)
        return vae.apply({"params": frozen["vae"]}, image, rng_posterior, method="to_latent"), text

    def scores(self, state: State, frozen: PyTree, batch: Batch) -> tuple[Metrics, dict[str, Array]]:
        """Score the averaged weights at fixed noise, and predict clean images from noise of step 500."""
        errors = self._errors(state.ema, frozen, batch, jax.random.key(0), jax.random.key(1))
        clean = from_uint8(batch["hr"])
        vae = self.compute.vae(self.vae)
        latent = vae.apply({"params": frozen["vae"]}, clean, method="to_latent")
        timesteps = jnp.full(len(clean), 500)
        noisy = NoiseSchedule().add_noise(latent, jax.random.normal(jax.random.key(2), latent.shape), timesteps)
        prompt = frozen["prompt"].embedding
        text = jnp.broadcast_to(prompt, (len(clean), *prompt.shape))
        noise = self.compute.unet(self.unet).apply({"params": state.ema}, noisy, timesteps, text)
        predicted = NoiseSchedule().predict_x0(noisy, noise, timesteps)
        decoded = vae.apply({"params": frozen["vae"]}, predicted, method="to_image")
        return {"noise_error": errors, "latent_deviation": latent.std()}, {"target": clean, "denoised": decoded}

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give the VAE, the UNet and the prompts."""
        prompt, negative = frozen["prompt"], frozen["negative_prompt"]
        source = f"tvt_jax, stage prior, from {self.source}"
        card = ModelCard(source=source, prompt=prompt.text, negative_prompt=negative.text)
        return ModelFolder(
            card=card,
            vae_config=self.vae,
            vae=frozen["vae"],
            unet_config=self.unet,
            unet=state.ema,
            prompt_embedding=prompt.embedding,
            negative_prompt_embedding=negative.embedding,
        )
