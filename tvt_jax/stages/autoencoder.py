"""What the three VAE stages share: reconstruct, compare by L1 + LPIPS + KL + hinge GAN, update, average."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from tvt_jax.losses.adversarial import adaptive_weight, discriminator_loss, generator_loss
from tvt_jax.losses.kl import kl_divergence
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.losses.reconstruction import reconstruction_loss
from tvt_jax.models.discriminator import PatchDiscriminator, PatchDiscriminatorConfig
from tvt_jax.models.shapes import initial_params
from tvt_jax.models.vae import AutoencoderKLConfig, Posterior
from tvt_jax.pixels import from_uint8
from tvt_jax.stages.images import psnr
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.stages.training import Training
from tvt_jax.train.state import Batch, Metrics, State

ENCODER = ("encoder", "quant_conv")
DECODER = ("decoder", "post_quant_conv")

_GAN_METRICS = ("generator", "discriminator", "adversarial_weight")


class Reconstruction(NamedTuple):
    """What a VAE stage makes of a batch."""

    image: Float[Array, "b h w 3"]
    target: Float[Array, "b h w 3"]
    posterior: Posterior | None


@dataclass(frozen=True, kw_only=True)
class AutoencoderStage(Training):
    """Base of the VAE stages (arXiv 2112.10752, latent-diffusion's trainer for a KL VAE).

    A subclass says which parts of the VAE are trained and how a batch is reconstructed.

    Attributes:
        vae: shape of the VAE that is trained.
        optimizer: of the generator and of the discriminator alike.
        discriminator: shape of the PatchGAN.
        perceptual: LPIPS and DISTS, beside L1.
        kl_weight: of the divergence, beside losses summed over pixels.
        adversarial_weight: factor on the adaptive weight; 0 trains without a GAN.
        adversarial_start: step from which the discriminator counts and is trained.
    """

    vae: AutoencoderKLConfig
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=4.5e-6 * 32, betas=(0.5, 0.9))
    )
    discriminator: PatchDiscriminatorConfig = field(default_factory=PatchDiscriminatorConfig)
    perceptual: PerceptualLoss = field(default_factory=PerceptualLoss)
    kl_weight: float = 1e-6
    adversarial_weight: float = 0.5
    adversarial_start: int = 50_001

    averaged: ClassVar[str] = "vae"
    trained: ClassVar[tuple[str, ...]] = (*ENCODER, *DECODER)

    @property
    def multiple(self) -> int:
        """Pixels that the sides of a crop must be a multiple of."""
        return self.vae.downsampling

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of what `evaluate` measures."""
        return ("psnr-rgb", *self.perceptual.names)

    def load(self) -> PyTree:
        """Read what stays frozen: here the perceptual networks."""
        return {"perceptual": self.perceptual.load()}

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` reads, without reading model folders."""
        return {"perceptual": jax.eval_shape(lambda: self.perceptual.load())}

    def initial(self, rng: PRNGKeyArray, frozen: PyTree) -> PyTree:
        """Give all parameters of the VAE before training."""
        return initial_params(rng, self.vae)

    def reconstruct(self, vae: PyTree, frozen: PyTree, image: Array, rng: PRNGKeyArray | None) -> Reconstruction:
        """Encode and decode images in [-1, 1] by the whole VAE; without rng decode the posterior's mean."""
        model = self.compute.vae(self.vae)
        posterior = model.apply({"params": vae}, image, method="encode")
        latent = posterior.mean if rng is None else posterior.sample(rng)
        return Reconstruction(model.apply({"params": vae}, latent, method="decode"), image, posterior)

    def init(self, rng: PRNGKeyArray, frozen: PyTree) -> State:
        """Make the state of step 0."""
        rng_vae, rng_discriminator = jax.random.split(rng)
        vae = {name: part for name, part in self.initial(rng_vae, frozen).items() if name in self.trained}
        return self.state({"vae": vae, "discriminator": initial_params(rng_discriminator, self.discriminator)})

    def gradients(
        self, state: State, frozen: PyTree, batch: Batch, rng: PRNGKeyArray
    ) -> tuple[dict[str, PyTree], Metrics]:
        """Give the gradients of generator and discriminator; they meet at the image, so one pass back serves all."""
        image = from_uint8(batch["hr"])
        kernel = self.whole_vae(state.params["vae"], frozen)["decoder"]["conv_out"]["kernel"]

        def reconstruct(vae: PyTree, beside: Array) -> Reconstruction:
            return self.reconstruct(_add_to_last(self.whole_vae(vae, frozen), beside), frozen, image, rng)

        def cotangent(gradient: Array) -> Reconstruction:
            return Reconstruction(gradient, *jax.tree.map(jnp.zeros_like, result[1:]))

        def loss(reconstructed: Array) -> Array:
            return reconstruction_loss(reconstructed, result.target, partial(self._perceptual, frozen))

        result, pull_back = jax.vjp(reconstruct, state.params["vae"], jnp.zeros(kernel.shape))
        value, image_gradient = jax.value_and_grad(loss)(result.image)
        metrics = {"reconstruction": value / result.target[0].size}
        grads_discriminator = jax.tree.map(jnp.zeros_like, state.params["discriminator"])
        if self.adversarial_weight:
            # A branch and not a factor of 0: until its start the discriminator then costs nothing.
            adversarial_gradient, grads_discriminator, adversarial_metrics = jax.lax.cond(
                state.step >= self.adversarial_start,
                lambda: self._adversarial(
                    state.params["discriminator"], result, image_gradient, lambda g: pull_back(cotangent(g))[1]
                ),
                lambda: (
                    jnp.zeros_like(image_gradient),
                    grads_discriminator,
                    dict.fromkeys(_GAN_METRICS, jnp.float32(0)),
                ),
            )
            image_gradient += adversarial_gradient
            metrics |= adversarial_metrics
        gradient = cotangent(image_gradient)
        if result.posterior is not None:
            kl, kl_gradient = jax.value_and_grad(kl_divergence)(result.posterior)
            gradient = gradient._replace(posterior=jax.tree.map(lambda g: self.kl_weight * g, kl_gradient))
            metrics["kl"] = kl
        grads_vae, _ = pull_back(gradient)
        return {"vae": grads_vae, "discriminator": grads_discriminator}, metrics

    def _adversarial(
        self, discriminator: PyTree, result: Reconstruction, image_gradient: Array, pull_back_last: Callable
    ) -> tuple[Array, PyTree, dict[str, Array]]:
        """Return the generator's weighted gradient by the image, the discriminator's gradient, and the metrics."""
        generator, gradient = jax.value_and_grad(lambda y: generator_loss(self._score(discriminator, y)))(result.image)
        balance = adaptive_weight(pull_back_last(image_gradient), pull_back_last(gradient))
        weight = self.adversarial_weight * balance
        loss, grads = jax.value_and_grad(self._discriminator_loss)(discriminator, result)
        return weight * gradient, grads, dict(zip(_GAN_METRICS, (generator, loss, weight), strict=True))

    def _discriminator_loss(self, discriminator: PyTree, result: Reconstruction) -> Array:
        return discriminator_loss(self._score(discriminator, result.target), self._score(discriminator, result.image))

    def _score(self, discriminator: PyTree, image: Array) -> Array:
        return PatchDiscriminator(self.discriminator).apply({"params": discriminator}, image)

    def _perceptual(self, frozen: PyTree, image: Array, target: Array) -> Array:
        weights = self.perceptual.weights
        distances = self.perceptual.distances(frozen["perceptual"], image, target, weights)
        return sum((weights[name] * distance for name, distance in distances.items()), jnp.zeros(len(image)))

    def scores(self, state: State, frozen: PyTree, batch: Batch) -> tuple[Metrics, dict[str, Array]]:
        """Score the averaged weights' reconstructions."""
        result = self.reconstruct(self.whole_vae(state.ema, frozen), frozen, from_uint8(batch["hr"]), None)
        distances = self.perceptual.distances(frozen["perceptual"], jnp.clip(result.image, -1, 1), result.target)
        return {"psnr-rgb": psnr(result.image, result.target), **distances}, {
            "target": result.target,
            "reconstruction": result.image,
        }

    def whole_vae(self, trained: PyTree, frozen: PyTree) -> dict[str, Any]:
        """Join all parameters of the VAE: those trained, or their averages, and those frozen."""
        return {**frozen.get("vae", {}), **trained}


def _add_to_last(vae: PyTree, beside: Array) -> PyTree:
    """Add `beside`, all zeros, to the decoder's last kernel: its gradients balance the losses, trained or not."""
    conv_out = vae["decoder"]["conv_out"]
    last = {**conv_out, "kernel": conv_out["kernel"] + beside}
    return {**vae, "decoder": {**vae["decoder"], "conv_out": last}}
