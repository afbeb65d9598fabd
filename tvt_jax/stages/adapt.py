"""Stage 3: adapt the UNet to restore a degraded image in one step, one level higher or as it is."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, PRNGKeyArray, PyTree

from tvt_jax.colour import COLOR_FIXES, ColorFix
from tvt_jax.data.pipeline import DataConfig
from tvt_jax.data.prompts import width_of
from tvt_jax.diffusion import restore_latent
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.model_folder import ModelCard, ModelFolder
from tvt_jax.models.lora import LoRAConfig, fuse_lora, init_lora, scale_lora
from tvt_jax.models.shapes import param_shapes
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.distillation import Distillation, Teacher, repeat
from tvt_jax.stages.images import enlarge, psnr
from tvt_jax.stages.sources import Prompt, prompts, read_source
from tvt_jax.stages.student import added_levels, init_student, shift_levels, split_trained, takes_lora
from tvt_jax.stages.training import Training
from tvt_jax.train.state import Batch, Metrics, State

# Tokens of a prompt of SD's text encoder.
PROMPT_TOKENS = 77


@dataclass(frozen=True, kw_only=True)
class AdaptStage(Training):
    """One-step restoration in a VAE's latent space, by MSE, LPIPS and VSD (TVT, third stage).

    One set of the prior's frozen weights serves as the student's base, as the teacher and as the fake score's base.

    Attributes:
        vae_source: model folder of the VAE: the encoder stage's, or an 8x one for a student of the prior's shape.
        vae: shape of its VAE.
        prior_source: model folder of the prior.
        prior: shape of its UNet.
        student_source: model folder of a finished UNet of the student's shape to go on from, such as an imported
            release; its layers take the place of the prior's in the student. None starts from the prior.
        student: shape of the UNet that is trained: the prior's, or that with a level added before it.
        trained: what is trained of the student: LoRA, and whole a new level and both ends; or all of it.
        whole: modules of a student of the prior's shape that are trained whole and not by LoRA, such as conv_in.
        lora: the student's.
        encoder_lora: of the VAE's encoder, for degraded images alone; None leaves it as it is.
        latent_weight: of the absolute error on scaled latents, against the encoder's of the target. Alone, it trains
            without decoding, and many times as many images in the same time.
        mse_weight: of the squared error on pixels in [-1, 1].
        perceptual: LPIPS and DISTS on pixels.
        distillation: VSD on latents.
        time_step: the student's one step.
        scale: enlargement of the degraded image.
        color_fix: how the finished model gives the input's colours back, unless asked otherwise.
        trained_color_fix: the fix that the losses on pixels look through. With that of the finished model they see
            what is delivered; the release's see the bare result.
    """

    vae_source: str
    vae: AutoencoderKLConfig
    prior_source: str
    prior: UNet2DConditionConfig
    student_source: str | None = None
    student: UNet2DConditionConfig
    trained: Literal["lora", "all"] = "lora"
    whole: tuple[str, ...] = ()
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    encoder_lora: LoRAConfig | None = None
    latent_weight: float = 0.0
    mse_weight: float = 1.0
    perceptual: PerceptualLoss = field(default_factory=lambda: PerceptualLoss(lpips_weight=2.0))
    distillation: Distillation = field(default_factory=Distillation)
    time_step: int = 1
    scale: int = 4
    color_fix: ColorFix = "adain"
    trained_color_fix: ColorFix = "none"

    averaged: ClassVar[str] = "student"
    degrades: ClassVar[bool] = True
    prompted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if added_levels(self.student, self.prior) and self.whole:
            raise ValueError(f"whole={self.whole} is for a student of the prior's shape: of others both ends are whole")
        self._require_equal("latent_channels", "vae", "prior", "student")
        self._require_equal("cross_attention_dim", "prior", "student")

    def problems(self, data: DataConfig) -> Iterator[str]:
        """Tell what of the data does not fit the stage, each in a sentence that begins with the field's name."""
        yield from super().problems(data)
        found, wanted = width_of(data.prompts) if data.prompts else None, self.prior.cross_attention_dim
        if found not in (None, wanted):
            yield f"prompts={data.prompts!r} are {found} wide, and the UNet reads {wanted}: encode them by the prior's"

    @property
    def multiple(self) -> int:
        """Pixels that the sides of a crop must be a multiple of."""
        patches = self.distillation.patches if self.distillation.weight else 1
        of_student, of_prior = (2 ** (len(unet.block_out_channels) - 1) for unet in (self.student, self.prior))
        return self.vae.downsampling * max(of_student, patches * of_prior)

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of what `evaluate` measures."""
        return ("psnr-rgb", *self.perceptual.names)

    def load(self) -> dict[str, PyTree]:
        """Read the VAE, the prior with its prompts, and the perceptual networks."""
        prior = read_source(self.prior_source, unet=self.prior)
        frozen = {
            "vae": read_source(self.vae_source, vae=self.vae).vae,
            "prior": prior.unet,
            **prompts(prior),
            "perceptual": self.perceptual.load(),
        }
        if self.student_source:
            frozen["student"] = read_source(self.student_source, unet=self.student).unet
        return frozen

    def abstract(self) -> dict[str, PyTree]:
        """Give the shapes of what `load` reads, without reading model folders."""
        prompt = Prompt(jax.ShapeDtypeStruct((PROMPT_TOKENS, self.prior.cross_attention_dim), jnp.float32))
        frozen = {
            "vae": param_shapes(self.vae),
            "prior": param_shapes(self.prior),
            "prompt": prompt,
            "negative_prompt": prompt,
            "perceptual": jax.eval_shape(lambda: self.perceptual.load()),
        }
        return frozen | ({"student": param_shapes(self.student)} if self.student_source else {})

    def init(self, rng: PRNGKeyArray, frozen: dict[str, PyTree]) -> State:
        """Make the state of step 0."""
        rng_new, rng_student, rng_fake = jax.random.split(rng, 3)
        start = frozen.get("student") or init_student(rng_new, self.student, frozen["prior"], self._added)
        whole, inherited = split_trained(
            start, len(self.student.block_out_channels), self._added, self.trained == "all", self.whole
        )
        lora = init_lora(rng_student, unflatten_dict(inherited), self.lora.rank, takes_lora)
        params = {"student": {"whole": unflatten_dict(whole), "lora": lora}}
        if self.encoder_lora:
            rng_encoder, rank = jax.random.fold_in(rng_student, 1), self.encoder_lora.rank
            params["student"]["encoder_lora"] = init_lora(rng_encoder, frozen["vae"], rank, encodes)
        if self.distillation.weight:
            params["fake"] = self.distillation.init(rng_fake, frozen["prior"])
        return self.state(params)

    def gradients(
        self, state: State, frozen: dict[str, PyTree], batch: Batch, rng: PRNGKeyArray
    ) -> tuple[dict[str, PyTree], Metrics]:
        """Give the student's gradient, and the fake score's on the student's results."""
        rng_student, rng_fake = jax.random.split(rng)
        student, fake = state.params["student"], state.params.get("fake")
        student_loss = jax.value_and_grad(self.student_loss, has_aux=True)
        (loss, (metrics, latent)), grads = student_loss(student, fake, frozen, batch, rng_student)
        grads, metrics = {"student": grads}, {"loss": loss, **metrics}
        if self.distillation.weight:
            fake_loss = jax.value_and_grad(self.distillation.fake_loss)
            metrics["fake"], grads["fake"] = fake_loss(fake, self.teacher(frozen, batch), latent, rng_fake)
        return grads, metrics

    def student_loss(
        self, student: PyTree, fake: PyTree, frozen: dict[str, PyTree], batch: Batch, rng: PRNGKeyArray
    ) -> tuple[Array, tuple[Metrics, Array]]:
        """Return the weighted sum of the student's losses; each of them as it is, and the student's scaled latent."""
        text = repeat(_text(frozen, batch), len(batch["lr"]))
        latent, target = self._restore_latent(student, frozen, batch["lr"], text), from_uint8(batch["hr"])
        losses: Metrics = {}
        if self.latent_weight:
            losses["latent"] = jnp.abs(latent - self._encode(frozen, target)).mean()
        if self.mse_weight or self.perceptual.weights:
            image = self._fix_color(self._decode(frozen, latent), batch["lr"])
            losses["mse"] = jnp.square(image - target).mean()
            counting = self.perceptual.distances(frozen["perceptual"], image, target, self.perceptual.weights)
            losses |= {name: distance.mean() for name, distance in counting.items()}
        if self.distillation.weight:
            losses["vsd"] = self.distillation.loss(self.teacher(frozen, batch), fake, latent, rng)
        weights = {
            "latent": self.latent_weight,
            "mse": self.mse_weight,
            "vsd": self.distillation.weight,
            **self.perceptual.weights,
        }
        return sum((weights[name] * loss for name, loss in losses.items()), jnp.zeros(())), (losses, latent)

    def restore(self, student: PyTree, frozen: dict[str, PyTree], batch: Batch) -> tuple[Array, Array]:
        """Restore a batch's degraded images; return them, their colours not fixed, and their scaled latents."""
        text = repeat(_text(frozen, batch), len(batch["lr"]))
        latent = self._restore_latent(student, frozen, batch["lr"], text)
        return self._decode(frozen, latent), latent

    def scores(self, state: State, frozen: dict[str, PyTree], batch: Batch) -> tuple[Metrics, dict[str, Array]]:
        """Score the averaged student's restorations."""
        image, _ = self.restore(state.ema, frozen, batch)
        image, target = self._fix_color(image, batch["lr"]).clip(-1, 1), from_uint8(batch["hr"])
        distances = self.perceptual.distances(frozen["perceptual"], image, target)
        pictures = {"degraded": self._enlarge(batch["lr"]), "restored": image, "target": target}
        return {"psnr-rgb": psnr(image, target), **distances}, pictures

    def export(self, state: State, frozen: dict[str, PyTree]) -> ModelFolder:
        """Give the whole model, LoRA fused."""
        params = self._student_params(state.ema, frozen)
        prompt, negative = frozen["prompt"], frozen["negative_prompt"]
        card = ModelCard(
            scale=self.scale,
            time_step=self.time_step,
            color_fix=self.color_fix,
            prompt=prompt.text,
            negative_prompt=negative.text,
            source=f"tvt_jax, stage adapt, from {self.vae_source} and {self.prior_source}",
        )
        return ModelFolder(
            card=card,
            vae_config=self.vae,
            vae=self._vae_params(state.ema, frozen),
            unet_config=self.student,
            unet=fuse_lora(params, state.ema["lora"], self.lora.scale),
            prompt_embedding=prompt.embedding,
            negative_prompt_embedding=negative.embedding,
        )

    @property
    def _added(self) -> int:
        return added_levels(self.student, self.prior)

    def teacher(self, frozen: dict[str, PyTree], batch: Batch) -> Teacher:
        """Make the prior the teacher, with the prompts of a batch."""
        unet = self.compute.unet(self.prior)
        return Teacher(unet, frozen["prior"], Prompt(_text(frozen, batch)), frozen["negative_prompt"])

    def _restore_latent(self, student: PyTree, frozen: dict[str, PyTree], degraded: Array, text: Array) -> Array:
        """Restore images, each by its prompt."""
        variables = {
            "params": self._student_params(student, frozen),
            "lora": scale_lora(student["lora"], self.lora.scale),
        }

        def predict_noise(latent: Array, timesteps: Array) -> Array:
            of_each = repeat(text, len(latent))
            return self.compute.unet(self.student).apply(variables, latent, timesteps, of_each)

        latent = self._encode(frozen, self._enlarge(degraded), student.get("encoder_lora"))
        return restore_latent(latent, predict_noise, self.time_step)

    def _student_params(self, student: PyTree, frozen: dict[str, PyTree]) -> PyTree:
        base = frozen.get("student") or shift_levels(frozen["prior"], self._added)
        return unflatten_dict(flatten_dict(base) | flatten_dict(student["whole"]))

    def _vae_params(self, student: PyTree, frozen: dict[str, PyTree]) -> PyTree:
        lora = self.encoder_lora
        return fuse_lora(frozen["vae"], student["encoder_lora"], lora.scale) if lora else frozen["vae"]

    def _encode(self, frozen: dict[str, PyTree], image: Array, lora: PyTree | None = None) -> Array:
        variables = {"params": frozen["vae"]}
        if lora is not None and self.encoder_lora:
            variables["lora"] = scale_lora(lora, self.encoder_lora.scale)
        return self.compute.vae(self.vae).apply(variables, image, method="to_latent")

    def _decode(self, frozen: dict[str, PyTree], latent: Array) -> Array:
        """Decode to images in [-1, 1], in training too: the losses see what is delivered, as in the release."""
        image = self.compute.vae(self.vae).apply({"params": frozen["vae"]}, latent, method="to_image")
        return jnp.clip(image, -1.0, 1.0)

    def _enlarge(self, degraded: Array) -> Array:
        return enlarge(from_uint8(degraded), self.scale)

    def _fix_color(self, image: Array, degraded: Array) -> Any:
        return jax.vmap(COLOR_FIXES[self.trained_color_fix])(image, self._enlarge(degraded))


def encodes(path: tuple[str, ...]) -> bool:
    """Tell whether a layer of a VAE is on the way to the latent."""
    return path[0] in ("encoder", "quant_conv")


def _text(frozen: dict[str, PyTree], batch: Batch) -> Array:
    """Give the prompts of a batch's images where it has any, (b, n, d), else that of all, (n, d)."""
    return jnp.asarray(batch["prompt"], jnp.float32) if "prompt" in batch else jnp.asarray(frozen["prompt"].embedding)
