"""Train a latent diffusion UNet on a VAE's latents: the stand-in for SD's UNet at small size."""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tvt_jax.diffusion import NoiseSchedule
from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.compute import Compute, read_source, vae_shapes
from tvt_jax.stages.images import enlarge, to_float
from tvt_jax.stages.optimizer import OptimizerConfig, accumulate, moving_average, norms, update
from tvt_jax.train.state import State

PROMPT = "clean, high-resolution, 8k"
NEGATIVE_PROMPT = "blurry, noisy, low resolution"
TOKENS = 2


def prompt_embeddings(features: int) -> dict[str, Float[np.ndarray, "n d"]]:
    """Two fixed, nearly orthogonal embeddings: without a text encoder, a prompt names a distribution."""
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal((TOKENS, features), dtype=np.float32) for name in ("prompt", "negative_prompt")
    }


@dataclass(frozen=True, kw_only=True)
class PriorStage:
    """Noise prediction on latents of clean images under one prompt and of degraded ones under another.

    Thus guidance against the negative prompt means, at small size too, what it means for SD: away from degraded.

    Attributes:
        unet: shape of the UNet.
        source: model folder of the VAE.
        vae: its shape.
        optimizer: of the UNet.
        negative_share: share of the images that are taken degraded.
        ema_decay: of the moving average that is evaluated and exported.
        accumulation: parts that each batch is taken in, one after the other.
        compute: precision and rematerialisation of the networks.
    """

    unet: UNet2DConditionConfig
    source: str
    vae: AutoencoderKLConfig
    optimizer: OptimizerConfig
    negative_share: float = 0.5
    ema_decay: float = 0.999
    accumulation: int = 1
    compute: Compute = field(default_factory=Compute)

    def load(self) -> PyTree:
        """Read the VAE and make the prompts' embeddings."""
        vae = read_source(self.source, vae=self.vae).vae
        return {"vae": vae, **prompt_embeddings(self.unet.cross_attention_dim)}

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` reads, without reading the model folder."""
        prompts = jax.eval_shape(lambda: prompt_embeddings(self.unet.cross_attention_dim))
        return {"vae": vae_shapes(self.vae), **prompts}

    def hold(self, frozen: PyTree) -> PyTree:
        """Give what `load` reads as it lies in memory."""
        return self.compute.hold(frozen)

    def init(self, rng: PRNGKeyArray, frozen: PyTree) -> State:
        """Make the state of step 0."""
        latent = jnp.zeros((1, 16, 16, self.unet.latent_channels))
        unet = self.compute.unet(self.unet).init(rng, latent, jnp.zeros(1, int), frozen["prompt"][None])["params"]
        opt_state = {"unet": self.optimizer.make().init(unet)}
        return State(step=jnp.int32(0), params={"unet": unet}, opt_state=opt_state, ema=jax.tree.map(jnp.copy, unet))

    def step(self, state: State, frozen: PyTree, batch: PyTree, rng: PRNGKeyArray) -> tuple[State, dict[str, Array]]:
        """Update the UNet on one batch."""

        def gradients(part: PyTree, rng: PRNGKeyArray) -> tuple[PyTree, dict[str, Array]]:
            def loss(unet: PyTree) -> Array:
                return self._errors(unet, frozen, part, rng, jax.random.fold_in(rng, 1)).mean()

            value, grads = jax.value_and_grad(loss)(state.params["unet"])
            return grads, {"noise_error": value}

        grads, metrics = accumulate(gradients, batch, rng, self.accumulation)
        unet, opt_state = update(self.optimizer, grads, state.opt_state["unet"], state.params["unet"])
        ema = moving_average(state.ema, unet, self.ema_decay, state.step)
        metrics |= norms({"unet": grads}, {"unet": unet})
        metrics["learning_rate"] = self.optimizer.schedule()(state.step)
        return replace(state, params={"unet": unet}, opt_state={"unet": opt_state}, ema=ema), metrics

    def _errors(self, unet: PyTree, frozen: PyTree, batch: PyTree, rng: PRNGKeyArray, rng_time: PRNGKeyArray) -> Array:
        """Squared error of the predicted noise, a value each image."""
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
        """Scaled latents of clean and degraded images, and the embedding that says which."""
        clean = to_float(batch["hr"])
        degraded = enlarge(to_float(batch["lr"]), clean.shape[1] // batch["lr"].shape[1])
        negative = jax.random.bernoulli(rng_share, self.negative_share, clean.shape[:1])
        image = jnp.where(negative[:, None, None, None], degraded, clean)
        text = jnp.where(negative[:, None, None], frozen["negative_prompt"], frozen["prompt"])
        posterior = self.compute.vae(self.vae).apply({"params": frozen["vae"]}, image, method="encode")
        return posterior.sample(rng_posterior) * self.vae.scaling_factor, text

    def evaluate(self, state: State, frozen: PyTree, batch: PyTree) -> tuple[dict[str, Array], dict[str, Array]]:
        """Error of the averaged weights at fixed noise, and clean images predicted from noise of step 500."""
        errors = self._errors(state.ema, frozen, batch, jax.random.key(0), jax.random.key(1))
        clean = to_float(batch["hr"])
        vae = self.compute.vae(self.vae)
        latent = vae.apply({"params": frozen["vae"]}, clean, method="encode").mean * self.vae.scaling_factor
        timesteps = jnp.full(len(clean), 500)
        noisy = NoiseSchedule().add_noise(latent, jax.random.normal(jax.random.key(2), latent.shape), timesteps)
        text = jnp.broadcast_to(frozen["prompt"], (len(clean), *frozen["prompt"].shape))
        noise = self.compute.unet(self.unet).apply({"params": state.ema}, noisy, timesteps, text)
        predicted = NoiseSchedule().predict_x0(noisy, noise, timesteps) / self.vae.scaling_factor
        decoded = vae.apply({"params": frozen["vae"]}, predicted, method="decode")
        return {"noise_error": errors, "latent_deviation": latent.std()}, {"target": clean, "denoised": decoded}

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give the VAE, the UNet and the prompts."""
        card = ModelCard(
            source=f"tvt_jax, stage prior, from {self.source}", prompt=PROMPT, negative_prompt=NEGATIVE_PROMPT
        )
        return ModelFolder(
            card=card,
            vae_config=self.vae,
            vae=frozen["vae"],
            unet_config=self.unet,
            unet=state.ema,
            prompt_embedding=frozen["prompt"],
            negative_prompt_embedding=frozen["negative_prompt"],
        )
