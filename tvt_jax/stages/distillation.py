"""Variational score distillation: a teacher, a fake score that models the student's results, and their losses."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from tvt_jax.diffusion import NoiseSchedule
from tvt_jax.losses.vsd import draw_patches, guide, vsd_loss
from tvt_jax.models.lora import LoRAConfig, init_lora, scale_lora
from tvt_jax.models.unet import UNet2DConditionModel
from tvt_jax.stages.sources import Prompt

Latent = Float[Array, "b h w c"]


class Teacher(NamedTuple):
    """A frozen latent diffusion UNet with its prompts; with LoRA on it, it is the fake score.

    Attributes:
        unet: the network.
        params: its parameters.
        prompt: of what is wanted, (n, d) for all images or (b, n, d) for each.
        negative_prompt: of what guidance leads away from.
    """

    unet: UNet2DConditionModel
    params: PyTree
    prompt: Prompt
    negative_prompt: Prompt

    def noise(self, noisy: Latent, timesteps: Int[Array, " b"], text: Array, lora: PyTree | None = None) -> Latent:
        """Predict the noise, given a text embedding for each image."""
        variables = {"params": self.params} if lora is None else {"params": self.params, "lora": lora}
        return self.unet.apply(variables, noisy, timesteps, text)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """VSD in the form of one-step restoration (arXiv 2406.08177): it needs latents, whatever made them.

    Attributes:
        weight: of the loss; 0 leaves distillation out, and the fake score with it.
        patches: patches a side that a latent is cut into: the size that the teacher was trained on.
        drawn: of these patches of each latent, how many are looked at in a step.
        guidance: scale of the teacher's guidance against the negative prompt.
        times: first time step that the loss looks at, and the one after the last.
        lora: the fake score's.
    """

    weight: float = 1.0
    patches: int = 2
    drawn: int = 4
    guidance: float = 7.5
    times: tuple[int, int] = (250, 750)
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    def __post_init__(self) -> None:
        if self.patches < 1:
            raise ValueError(f"patches={self.patches} must be at least 1")
        if not 1 <= self.drawn <= self.patches**2:
            raise ValueError(f"drawn={self.drawn} must be from 1 to patches², which is {self.patches**2}")
        if not 0 <= self.times[0] < self.times[1] <= NoiseSchedule().steps:
            raise ValueError(f"times={self.times} must increase, from 0 to {NoiseSchedule().steps} at most")

    def init(self, rng: PRNGKeyArray, params: PyTree) -> PyTree:
        """Make the fake score's LoRA on the teacher's parameters."""
        return init_lora(rng, params, self.lora.rank)

    def loss(self, teacher: Teacher, fake: PyTree, latent: Latent, rng: PRNGKeyArray) -> Float[Array, ""]:
        """Distil the teacher's score into scaled latents, relative to the fake score; not weighted."""
        rng_patches, rng_time, rng_noise = jax.random.split(rng, 3)
        latent = draw_patches(rng_patches, latent, self.patches, self.drawn)
        schedule = NoiseSchedule()
        timesteps = jax.random.randint(rng_time, latent.shape[:1], *self.times)
        noisy = schedule.add_noise(latent, jax.random.normal(rng_noise, latent.shape), timesteps)
        noisy = jax.lax.stop_gradient(noisy)

        real = self._guided(teacher, noisy, timesteps)
        predicted = self._fake_noise(teacher, fake, noisy, timesteps)
        predicted = schedule.predict_x0(noisy, predicted, timesteps)
        return vsd_loss(latent, jax.lax.stop_gradient(real), jax.lax.stop_gradient(predicted))

    def fake_loss(self, fake: PyTree, teacher: Teacher, latent: Latent, rng: PRNGKeyArray) -> Float[Array, ""]:
        """Return the squared error of the fake score's noise prediction on the student's results."""
        rng_patches, rng_time, rng_noise = jax.random.split(rng, 3)
        latent = draw_patches(rng_patches, jax.lax.stop_gradient(latent), self.patches, self.drawn)
        schedule = NoiseSchedule()
        timesteps = jax.random.randint(rng_time, latent.shape[:1], 0, schedule.steps)
        noise = jax.random.normal(rng_noise, latent.shape)
        noisy = schedule.add_noise(latent, noise, timesteps)
        return jnp.square(self._fake_noise(teacher, fake, noisy, timesteps) - noise).mean()

    def _fake_noise(self, teacher: Teacher, fake: PyTree, noisy: Array, timesteps: Array) -> Array:
        text = repeat(teacher.prompt.embedding, len(noisy))
        return teacher.noise(noisy, timesteps, text, scale_lora(fake, self.lora.scale))

    def _guided(self, teacher: Teacher, noisy: Array, timesteps: Array) -> Array:
        """Give the teacher's guided estimate; both prompts in one batch, side by side so that it stays split."""
        prompts = (repeat(prompt.embedding, len(noisy)) for prompt in (teacher.prompt, teacher.negative_prompt))
        text = interleaved(*prompts)
        noisy, timesteps = (jnp.repeat(x, 2, axis=0) for x in (noisy, timesteps))
        noise = teacher.noise(noisy, timesteps, text)
        estimates = NoiseSchedule().predict_x0(noisy, noise, timesteps).reshape(-1, 2, *noisy.shape[1:])
        return guide(estimates[:, 0], estimates[:, 1], self.guidance)


def repeat(embedding: Float[Array, "*b n d"], count: int) -> Float[Array, "bn n d"]:
    """Repeat an embedding, or one for each image, for each of `count` images or patches, an image's side by side."""
    if embedding.ndim == 2:
        return jnp.broadcast_to(embedding, (count, *embedding.shape))
    return jnp.repeat(embedding, count // len(embedding), axis=0)


def interleaved(first: Array, second: Array) -> Array:
    """Give the first of either, the second of either, and so on."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])
