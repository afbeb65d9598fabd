"""Stage 3: adapt the UNet, one level higher, to restore a degraded image in one step."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PRNGKeyArray, PyTree

from tvt_jax.colour import COLOR_FIXES
from tvt_jax.diffusion import NoiseSchedule
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.losses.vsd import draw_patches, guide, vsd_loss
from tvt_jax.model_folder import ModelCard, ModelFolder, read_model
from tvt_jax.models.lora import fuse_lora, init_lora, scale_lora
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.compute import Compute, read_source, unet_shapes, vae_shapes
from tvt_jax.stages.images import enlarge, psnr, to_float
from tvt_jax.stages.optimizer import OptimizerConfig, accumulate, moving_average, norms, update
from tvt_jax.stages.student import init_student, shift_levels, split_new, takes_lora
from tvt_jax.train.state import State

# Tokens of a prompt of SD's text encoder.
PROMPT_TOKENS = 77


@dataclass(frozen=True, kw_only=True)
class AdaptStage:
    """One-step restoration in the 4x latent space, by MSE, LPIPS and VSD (TVT, third stage).

    One set of the prior's frozen weights serves as the student's base, as the teacher and as the fake score's base.

    Attributes:
        vae_source: model folder of the encoder stage.
        vae: shape of its VAE.
        prior_source: model folder of the prior.
        prior: shape of its UNet.
        student_source: model folder of a finished UNet of the student's shape to go on from, such as an imported
            release; its layers take the place of the prior's in the student. None starts from the prior.
        student: shape of the UNet with the new level.
        optimizer: of the student and of the fake score alike.
        rank: of both LoRAs.
        lora_alpha: their scale is lora_alpha / rank (PEFT's default alpha is 8).
        latent_weight: of the absolute error on scaled latents, against E4's of the target. Alone, it trains without
            decoding, and many times as many images in the same time.
        mse_weight: of the squared error on pixels in [-1, 1].
        perceptual: LPIPS and DISTS on pixels.
        vsd_weight: of the distillation on latents; 0 leaves it out, and the fake score with it.
        vsd_patches: patches a side that the student's latent is cut into for teacher and fake score.
        vsd_drawn: of these patches of each latent, how many are looked at in a step.
        guidance: scale of the teacher's guidance against the negative prompt.
        time_step: the student's one step.
        scale: enlargement of the degraded image.
        color_fix: how the finished model gives the input's colours back, unless asked otherwise.
        trained_color_fix: the fix that the losses on pixels look through. With that of the finished model they see
            what is delivered; the release's see the bare result.
        ema_decay: of the moving average of the student that is evaluated and exported.
        accumulation: parts that each batch is taken in, one after the other.
        compute: precision and rematerialisation of the networks; those of the losses are float32.
    """

    vae_source: str
    vae: AutoencoderKLConfig
    prior_source: str
    prior: UNet2DConditionConfig
    student_source: str | None = None
    student: UNet2DConditionConfig
    optimizer: OptimizerConfig
    rank: int = 4
    lora_alpha: float = 8.0
    latent_weight: float = 0.0
    mse_weight: float = 1.0
    perceptual: PerceptualLoss = field(default_factory=lambda: PerceptualLoss(lpips_weight=2.0))
    vsd_weight: float = 1.0
    vsd_patches: int = 2
    vsd_drawn: int = 4
    guidance: float = 7.5
    time_step: int = 1
    scale: int = 4
    color_fix: Literal["adain", "wavelet", "none"] = "adain"
    trained_color_fix: Literal["adain", "wavelet", "none"] = "none"
    ema_decay: float = 0.999
    accumulation: int = 1
    compute: Compute = field(default_factory=Compute)

    def load(self) -> PyTree:
        """Read the VAE, the prior with its prompts, and the perceptual networks."""
        prior = read_source(self.prior_source, unet=self.prior)
        frozen = {
            "vae": read_source(self.vae_source, vae=self.vae).vae,
            "prior": prior.unet,
            "prompt": prior.prompt_embedding,
            "negative_prompt": prior.negative_prompt_embedding,
            "perceptual": self.perceptual.load(),
        }
        if self.student_source:
            frozen["student"] = read_source(self.student_source, unet=self.student).unet
        return frozen

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` reads, without reading model folders."""
        prompt = jax.ShapeDtypeStruct((PROMPT_TOKENS, self.prior.cross_attention_dim), jnp.float32)
        frozen = {
            "vae": vae_shapes(self.vae),
            "prior": unet_shapes(self.prior),
            "prompt": prompt,
            "negative_prompt": prompt,
            "perceptual": jax.eval_shape(lambda: self.perceptual.load()),
        }
        return frozen | ({"student": unet_shapes(self.student)} if self.student_source else {})

    def hold(self, frozen: PyTree) -> PyTree:
        """Give what `load` reads as it lies in memory."""
        return self.compute.hold(frozen)

    def init(self, rng: PRNGKeyArray, frozen: PyTree) -> State:
        """Make the state of step 0."""
        rng_new, rng_student, rng_fake = jax.random.split(rng, 3)
        start = frozen.get("student") or init_student(rng_new, self.student, frozen["prior"])
        new, inherited = split_new(start, self.student)
        levels = len(self.student.block_out_channels)
        lora = init_lora(rng_student, unflatten_dict(inherited), self.rank, lambda path: takes_lora(path, levels))
        params = {"student": {"new": unflatten_dict(new), "lora": lora}}
        if self.vsd_weight:
            params["fake"] = init_lora(rng_fake, frozen["prior"], self.rank)
        opt_state = {group: self.optimizer.make().init(tree) for group, tree in params.items()}
        ema = jax.tree.map(jnp.copy, params["student"])
        return State(step=jnp.int32(0), params=params, opt_state=opt_state, ema=ema)

    def step(self, state: State, frozen: PyTree, batch: PyTree, rng: PRNGKeyArray) -> tuple[State, dict[str, Array]]:
        """Update the student, and the fake score on the student's results, on one batch."""

        def gradients(part: PyTree, rng: PRNGKeyArray) -> tuple[PyTree, dict[str, Array]]:
            return self._gradients(state, frozen, part, rng)

        grads, metrics = accumulate(gradients, batch, rng, self.accumulation)
        params, opt_state = {}, {}
        for group, tree in state.params.items():
            params[group], opt_state[group] = update(self.optimizer, grads[group], state.opt_state[group], tree)
        ema = moving_average(state.ema, params["student"], self.ema_decay, state.step)
        metrics |= norms(grads, params)
        metrics["learning_rate"] = self.optimizer.schedule()(state.step)
        return replace(state, params=params, opt_state=opt_state, ema=ema), metrics

    def _gradients(self, state: State, frozen: PyTree, batch: PyTree, rng: PRNGKeyArray) -> tuple[PyTree, dict]:
        rng_student, rng_fake = jax.random.split(rng)
        student, fake = state.params["student"], state.params.get("fake")
        student_loss = jax.value_and_grad(self.student_loss, has_aux=True)
        (loss, (metrics, latent)), grads = student_loss(student, fake, frozen, batch, rng_student)
        grads, metrics = {"student": grads}, {"loss": loss, **metrics}
        if self.vsd_weight:
            metrics["fake"], grads["fake"] = jax.value_and_grad(self.fake_loss)(fake, frozen, latent, rng_fake)
        return grads, metrics

    def student_loss(
        self, student: PyTree, fake: PyTree, frozen: PyTree, batch: PyTree, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[dict[str, Array], Array]]:
        """Sum of the student's losses, each of them weighted, and its scaled latent."""
        latent, target = self._restore_latent(student, frozen, batch["lr"]), to_float(batch["hr"])
        losses = {}
        if self.latent_weight:
            losses["latent"] = self.latent_weight * jnp.abs(latent - self._encode(frozen, target)).mean()
        if self.mse_weight or self.perceptual.lpips_weight or self.perceptual.dists_weight:
            image = self._fix_color(self._decode(frozen, latent), batch["lr"])
            losses |= self._pixel_losses(frozen, image, target)
        if self.vsd_weight:
            losses["vsd"] = self.vsd_weight * self._vsd(fake, frozen, latent, rng)
        return sum(losses.values(), jnp.zeros(())), (losses, latent)

    def _pixel_losses(self, frozen: PyTree, image: Array, target: Array) -> dict[str, Array]:
        weighted = self.perceptual.weighted(frozen["perceptual"], image, target)
        losses = {name: distance.mean() for name, distance in weighted.items()}
        return {"mse": self.mse_weight * jnp.square(image - target).mean(), **losses}

    def _fix_color(self, image: Array, degraded: Array) -> Array:
        return jax.vmap(COLOR_FIXES[self.trained_color_fix])(image, enlarge(to_float(degraded), self.scale))

    def restore(self, student: PyTree, frozen: PyTree, degraded: Array) -> tuple[Array, Array]:
        """Restore a uint8 batch; gives the images and their scaled latents."""
        latent = self._restore_latent(student, frozen, degraded)
        return self._decode(frozen, latent), latent

    def _restore_latent(self, student: PyTree, frozen: PyTree, degraded: Array) -> Array:
        latent = self._encode(frozen, enlarge(to_float(degraded), self.scale))
        timesteps = jnp.full(len(latent), self.time_step)
        noise = self._student_noise(student, frozen, latent, timesteps)
        return NoiseSchedule().predict_x0(latent, noise, timesteps)

    def _encode(self, frozen: PyTree, image: Array) -> Array:
        posterior = self.compute.vae(self.vae).apply({"params": frozen["vae"]}, image, method="encode")
        return posterior.mean * self.vae.scaling_factor

    def _decode(self, frozen: PyTree, latent: Array) -> Array:
        """Decode to images in [-1, 1], in training too: the losses see what is delivered, as in the release."""
        latent = latent / self.vae.scaling_factor
        image = self.compute.vae(self.vae).apply({"params": frozen["vae"]}, latent, method="decode")
        return jnp.clip(image, -1.0, 1.0)

    def _student_noise(self, student: PyTree, frozen: PyTree, latent: Array, timesteps: Array) -> Array:
        variables = {
            "params": self._student_params(student, frozen),
            "lora": scale_lora(student["lora"], self.lora_alpha / self.rank),
        }
        text = _repeat(frozen["prompt"], len(latent))
        return self.compute.unet(self.student).apply(variables, latent, timesteps, text)

    def _student_params(self, student: PyTree, frozen: PyTree) -> PyTree:
        base = frozen.get("student") or shift_levels(frozen["prior"])
        return unflatten_dict(flatten_dict(base) | flatten_dict(student["new"]))

    def _vsd(self, fake: PyTree, frozen: PyTree, latent: Array, rng: PRNGKeyArray) -> Array:
        """Distil the teacher's score into the latent, relative to the fake score."""
        rng_patches, rng_time, rng_noise = jax.random.split(rng, 3)
        latent = draw_patches(rng_patches, latent, self.vsd_patches, self.vsd_drawn)
        schedule = NoiseSchedule()
        timesteps = jax.random.randint(rng_time, latent.shape[:1], schedule.steps // 4, schedule.steps * 3 // 4)
        noisy = schedule.add_noise(latent, jax.random.normal(rng_noise, latent.shape), timesteps)
        noisy = jax.lax.stop_gradient(noisy)

        real = self._guided(frozen, noisy, timesteps)
        predicted = self._prior_noise(frozen, noisy, timesteps, _repeat(frozen["prompt"], len(noisy)), fake)
        predicted = schedule.predict_x0(noisy, predicted, timesteps)
        return vsd_loss(latent, jax.lax.stop_gradient(real), jax.lax.stop_gradient(predicted))

    def _guided(self, frozen: PyTree, noisy: Array, timesteps: Array) -> Array:
        """The teacher's estimate; with and without the prompt in one batch, side by side so that it stays split."""
        prompts = jnp.stack([frozen["prompt"], frozen["negative_prompt"]])
        text = _repeat(prompts, len(noisy)).reshape(-1, *prompts.shape[1:])
        noisy, timesteps = (jnp.repeat(x, 2, axis=0) for x in (noisy, timesteps))
        noise = self._prior_noise(frozen, noisy, timesteps, text)
        estimates = NoiseSchedule().predict_x0(noisy, noise, timesteps).reshape(-1, 2, *noisy.shape[1:])
        return guide(estimates[:, 0], estimates[:, 1], self.guidance)

    def fake_loss(self, fake: PyTree, frozen: PyTree, latent: Array, rng: PRNGKeyArray) -> Array:
        """Squared error of the fake score's noise prediction on the student's results."""
        rng_patches, rng_time, rng_noise = jax.random.split(rng, 3)
        latent = draw_patches(rng_patches, jax.lax.stop_gradient(latent), self.vsd_patches, self.vsd_drawn)
        schedule = NoiseSchedule()
        timesteps = jax.random.randint(rng_time, latent.shape[:1], 0, schedule.steps)
        noise = jax.random.normal(rng_noise, latent.shape)
        noisy = schedule.add_noise(latent, noise, timesteps)
        text = _repeat(frozen["prompt"], len(noisy))
        return jnp.square(self._prior_noise(frozen, noisy, timesteps, text, fake) - noise).mean()

    def _prior_noise(
        self, frozen: PyTree, noisy: Array, timesteps: Array, text: Array, lora: PyTree | None = None
    ) -> Array:
        variables = {"params": frozen["prior"]}
        if lora is not None:
            variables["lora"] = scale_lora(lora, self.lora_alpha / self.rank)
        return self.compute.unet(self.prior).apply(variables, noisy, timesteps, text)

    def evaluate(self, state: State, frozen: PyTree, batch: PyTree) -> tuple[dict[str, Array], dict[str, Array]]:
        """Score the averaged student's restorations."""
        image, _ = self.restore(state.ema, frozen, batch["lr"])
        image, target = self._fix_color(image, batch["lr"]).clip(-1, 1), to_float(batch["hr"])
        distances = self.perceptual.distances(frozen["perceptual"], image, target)
        pictures = {"degraded": enlarge(to_float(batch["lr"]), self.scale), "restored": image, "target": target}
        return {"psnr": psnr(image, target), **distances}, pictures

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Give the whole model, LoRA fused."""
        params = self._student_params(state.ema, frozen)
        prior = read_model(self.prior_source).card
        card = ModelCard(
            scale=self.scale,
            time_step=self.time_step,
            color_fix=self.color_fix,
            prompt=prior.prompt,
            negative_prompt=prior.negative_prompt,
            source=f"tvt_jax, stage adapt, from {self.vae_source} and {self.prior_source}",
        )
        return ModelFolder(
            card=card,
            vae_config=self.vae,
            vae=frozen["vae"],
            unet_config=self.student,
            unet=fuse_lora(params, state.ema["lora"], self.lora_alpha / self.rank),
            prompt_embedding=frozen["prompt"],
            negative_prompt_embedding=frozen["negative_prompt"],
        )


def _repeat(embedding: Array, count: int) -> Any:
    return jnp.broadcast_to(embedding, (count, *embedding.shape))
