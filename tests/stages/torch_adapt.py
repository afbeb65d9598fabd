"""One step of the adaptation in torch and float64, as the release's training script and its two models write it.

The networks are those of diffusers and PEFT, with our parameters in them.
"""

import math
import re
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from flax.traverse_util import flatten_dict
from jaxtyping import PyTree
from peft import LoraConfig

from tests.models.torch_perceptual import VGG_TAPS, torch_dists, torch_lpips, torch_vgg16, with_weights
from tests.models.torch_reference import gradients_of, peft_trees, to_torch, without_middle
from tvt_jax.models.keys import to_torch as torch_name
from tvt_jax.models.keys import tree_to_torch
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.stages.adapt import AdaptStage

Losses = dict[str, torch.Tensor]


class AdaptReference:
    """The release's student, teacher and fake score, and what it does with them in a step.

    Attributes:
        stage: configuration of ours; LPIPS is on VGG16.
        student: takes gradients in its LoRA and in what is new.
        fake: takes gradients in its LoRA.
    """

    def __init__(self, stage: AdaptStage, params: PyTree, frozen: PyTree, generator: np.random.Generator) -> None:
        """Takes the parameters of a state, what the stage has loaded, and what is asked for each chance."""
        self.stage, self._generator = stage, generator
        self._perceptual = frozen["perceptual"]
        self._vgg = with_weights(torch_vgg16(), self._perceptual["lpips-vgg"]["net"])
        self._text = {
            name: torch.tensor(np.asarray(frozen[name].embedding)).double() for name in ("prompt", "negative_prompt")
        }
        prior = tree_to_torch(frozen["prior"])
        inherited = {
            re.sub(r"^down_blocks\.(\d+)", lambda match: f"down_blocks.{int(match[1]) + 1}", name): tensor
            for name, tensor in prior.items()
        }
        student = params["student"]
        self.student = self._unet(stage.student, inherited | tree_to_torch(student["whole"]), student["lora"])
        self.fake = self._unet(stage.prior, prior, params["fake"])
        self._real = self._unet(stage.prior, prior, {})
        self._vae = _vae(stage.vae, tree_to_torch(frozen["vae"]))
        levels = len(stage.student.block_out_channels)
        new = (
            "conv_in",
            "conv_out",
            "down_blocks.0",
            f"up_blocks.{levels - 1}",
            f"up_blocks.{levels - 2}.upsamplers.0",
        )
        for name, parameter in self.student.named_parameters():
            if name.startswith(new):
                parameter.requires_grad = True
        # The release's schedule, whose float32 table is taken as exact.
        self._schedule = DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )
        self._schedule.set_timesteps(timesteps=[stage.time_step])
        self._schedule.alphas_cumprod = self._schedule.alphas_cumprod.double()

    def step(self, low: np.ndarray, high: np.ndarray) -> Losses:
        """Leave the gradients of a uint8 batch with the networks' parameters; return the losses and their sum."""
        stage = self.stage
        target, degraded = (to_torch(image / 127.5 - 1).detach() for image in (high, low))
        # With antialias torch's bicubic is Pillow's.
        source = F.interpolate(degraded, scale_factor=stage.scale, mode="bicubic", antialias=True).clamp(-1, 1)
        image, latent = self._restore(source)
        perceptual = stage.perceptual
        losses = {
            "latent": F.l1_loss(latent, self._encode(target)),
            "mse": F.mse_loss(image, target),
            "lpips-vgg": torch_lpips(self._vgg, VGG_TAPS, self._perceptual["lpips-vgg"], image, target).mean(),
            "dists": torch_dists(self._perceptual["dists"], image, target).mean(),
            "vsd": self._distribution_matching_loss(self._patches(latent)),
        }
        weights = (
            *(stage.latent_weight, stage.mse_weight, perceptual.lpips_weight, perceptual.dists_weight),
            stage.distillation.weight,
        )
        losses["loss"] = sum(weight * loss for weight, loss in zip(weights, losses.values(), strict=True))
        losses["loss"].backward()
        losses["fake"] = self._lora_loss(self._patches(latent.detach()))
        losses["fake"].backward()
        return losses

    def gradients(self) -> dict[str, dict[str, np.ndarray]]:
        """Of student and fake score, by our paths."""
        found = {}
        for group, network in (("student", self.student), ("fake", self.fake)):
            trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
            trees = peft_trees({name: leaf for name, leaf in gradients_of(network).items() if name in trained})
            found[group] = {"whole": trees["params"], "lora": trees["lora"]} if group == "student" else trees["lora"]
        return {group: flatten_dict(tree, sep="/") for group, tree in found.items()}

    def _restore(self, source: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self._encode(source)
        timestep = torch.tensor(self.stage.time_step)
        noise = self._predict(self.student, encoded, timestep.expand(len(encoded)), "prompt")
        # After its last step the schedule still adds noise, 1e-10 of it.
        denoised = self._schedule.step(noise, timestep, encoded, torch.Generator().manual_seed(0)).prev_sample
        return self._vae.decode(denoised / self.stage.vae.scaling_factor).sample.clamp(-1, 1), denoised

    def _encode(self, image: torch.Tensor) -> torch.Tensor:
        return self._vae.encode(image).latent_dist.mean * self.stage.vae.scaling_factor

    def _predict(
        self, network: UNet2DConditionModel, noisy: torch.Tensor, timesteps: torch.Tensor, prompt: str
    ) -> torch.Tensor:
        text = self._text[prompt].expand(len(noisy), -1, -1)
        return network(noisy, timesteps, encoder_hidden_states=text).sample

    def _patches(self, latent: torch.Tensor) -> torch.Tensor:
        """The four quarters, row by row."""
        half = latent.shape[-1] // 2
        sides = (slice(None, half), slice(half, None))
        patches = torch.stack([latent[:, :, rows, columns] for rows in sides for columns in sides], dim=1)
        return patches.flatten(0, 1)

    def _noised(self, latent: torch.Tensor, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        timesteps = torch.tensor(self._generator.integers(first, last, len(latent)))
        batch, channels, height, width = latent.shape
        noise = to_torch(self._generator.normal(size=(batch, height, width, channels))).detach()
        return self._schedule.add_noise(latent, noise, timesteps), noise, timesteps

    def _distribution_matching_loss(self, latents: torch.Tensor) -> torch.Tensor:
        noisy, _, timesteps = self._noised(latents, int(1000 * 0.25), int(1000 * 0.75))
        with torch.no_grad():
            fake_latents = self._eps_to_mu(self._predict(self.fake, noisy, timesteps, "prompt"), noisy, timesteps)
            uncond = self._predict(self._real, noisy, timesteps, "negative_prompt")
            text = self._predict(self._real, noisy, timesteps, "prompt")
            real_latents = self._eps_to_mu(
                uncond + self.stage.distillation.guidance * (text - uncond), noisy, timesteps
            )
        weighting_factor = torch.abs(latents - real_latents).mean(dim=[1, 2, 3], keepdim=True)
        grad = (fake_latents - real_latents) / weighting_factor
        return F.mse_loss(latents, (latents - grad).detach())

    def _lora_loss(self, latents: torch.Tensor) -> torch.Tensor:
        noisy, noise, timesteps = self._noised(latents, 0, 1000)
        return F.mse_loss(self._predict(self.fake, noisy, timesteps, "prompt"), noise)

    def _eps_to_mu(self, eps: torch.Tensor, sample: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        alpha = self._schedule.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
        return (sample - (1 - alpha) ** 0.5 * eps) / alpha**0.5

    def _unet(self, config: UNet2DConditionConfig, tensors: dict[str, np.ndarray], lora: PyTree) -> Any:
        """With PEFT's LoRA on the layers of `lora`; all else is frozen."""
        unet = UNet2DConditionModel.from_config(config.to_json())
        unet.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()})
        unet.requires_grad_(False)
        branches = _peft_tensors(lora)
        if branches:
            layers = [name.removesuffix(".lora_A.default.weight") for name in branches if ".lora_A." in name]
            unet.add_adapter(
                LoraConfig(r=self.stage.lora.rank, lora_alpha=int(self.stage.lora.alpha), target_modules=layers)
            )
        for name, parameter in unet.named_parameters():
            if ".lora_" in name:
                parameter.data = branches.pop(name)
        assert not branches
        unet.time_proj = Sinusoids(config.block_out_channels[0])
        return unet.double()


class Sinusoids(torch.nn.Module):
    """diffusers' Timesteps in float64; it computes them in float32 whatever the network's precision."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self._frequencies = torch.exp(-math.log(10000) * torch.arange(features // 2).double() / (features // 2))

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        angles = timesteps[:, None].double() * self._frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _vae(config: AutoencoderKLConfig, tensors: dict[str, np.ndarray]) -> AutoencoderKL:
    vae = AutoencoderKL.from_config(config.to_json())
    loaded = vae.load_state_dict({name: torch.tensor(tensor) for name, tensor in tensors.items()}, strict=False)
    assert not loaded.unexpected_keys
    assert all(".mid_block." in name for name in loaded.missing_keys)
    return without_middle(vae).double().requires_grad_(False)


def _peft_tensors(lora: PyTree) -> dict[str, torch.Tensor]:
    """Undo `peft_trees`."""
    tensors = {}
    for path, leaf in flatten_dict(lora).items():
        name, tensor = torch_name((*path[:-1], "kernel"), np.asarray(leaf))
        tensors[name.replace(".weight", f".{path[-1]}.default.weight")] = torch.tensor(tensor)
    return tensors
