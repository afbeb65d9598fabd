"""A model folder against the PyTorch files it came from: every tensor, and what the networks make of a photo."""

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convert.adapters import OSEDIFF, name_file
from convert.lora import Branches, fuse, read_branches
from convert.osediff import read_osediff
from convert.pisasr import read_pisasr
from convert.sd import StableDiffusion, read_network
from convert.tensors import read_safetensors
from convert.tvt import read_tvt
from tvt_jax.diffusion import OneStep, restore_latent
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.model_folder import WEIGHTS, Network, read_model
from tvt_jax.models.middle import with_middle
from tvt_jax.models.unet import UNet2DConditionConfig
from tvt_jax.models.vae import AutoencoderKLConfig
from tvt_jax.pixels import from_uint8
from tvt_jax.tokenizer import Tokenizer
from tvt_jax.unet_lora import LORA

RESTORATION = "restoration"


@dataclass(frozen=True)
class Difference:
    """How far two results are apart.

    Attributes:
        what: what was compared.
        largest: largest absolute difference.
        relative: that, in standard deviations of the reference.
    """

    what: str
    largest: float
    relative: float

    @classmethod
    def of(cls, what: str, ours: np.ndarray, theirs: np.ndarray) -> "Difference":
        """Compare arrays of one shape."""
        difference = largest(ours, theirs)
        if difference == math.inf:
            return cls(what, difference, difference)
        return cls(what, difference, difference / (float(np.std(theirs, dtype=np.float64)) or 1.0))

    def __str__(self) -> str:
        return f"{self.what}: largest difference {self.largest:.2e}, {self.relative:.2e} standard deviations"


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Give the largest absolute difference; infinite where one of the two is NaN or infinite."""
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
    return math.inf if math.isnan(difference) else difference


@dataclass(frozen=True)
class Networks:
    """What is in the PyTorch files: the VAE with the middle block that diffusers expects, the UNet, and their LoRA.

    Attributes:
        vae: without its LoRA.
        unet: without its LoRA.
        lora: of the UNet, in its weights or beside it.
        unet_lora: of the UNet, in its weights.
        vae_lora: of the VAE, in its weights.
    """

    vae: Network[AutoencoderKLConfig]
    unet: Network[UNet2DConditionConfig]
    lora: Branches
    unet_lora: Branches = field(default_factory=dict)
    vae_lora: Branches = field(default_factory=dict)


def read_networks(reference: Path, sd: Path | None = None) -> Networks:
    """Read the TVT release, a diffusers folder, or OSEDiff's or PiSA-SR's file.

    Args:
        reference: which of these.
        sd: Stable Diffusion, which the latter two adapt, and the others hold themselves.

    Raises:
        ValueError: Stable Diffusion is missing, or not needed, or the file is another.
    """
    if reference.is_file():
        return _read_file(reference, sd)
    if sd:
        raise ValueError(f"--sd goes with the file of OSEDiff or PiSA-SR: {reference} holds whole networks")
    if (reference / "vae.ckpt").is_file():
        release = read_tvt(reference)
        vae, unet, lora = release.vae, release.unet, release.lora
    else:
        vae = read_network(reference / "vae", AutoencoderKLConfig)
        unet, lora = read_network(reference / "unet", UNet2DConditionConfig), {}
    return Networks(Network(vae.config, with_middle(vae.config, vae.tensors)), unet, lora)


def _read_file(file: Path, sd: Path | None) -> Networks:
    kind, _ = name_file(file)
    if kind is None:
        raise ValueError(f"{file} is neither the file of OSEDiff nor of PiSA-SR; of others, name the folder")
    if sd is None:
        raise ValueError(f"{file} adapts Stable Diffusion: name that too, with --sd")
    read = (read_osediff if kind is OSEDIFF else read_pisasr)(file, StableDiffusion(sd))
    return Networks(read.vae, read.unet, read.semantic, read.unet_lora, read.vae_lora)


def compare_tensors(model: Path, networks: Networks) -> Iterator[Difference]:
    """Compare every tensor of the VAE and the UNet, and yield the worst of each network.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the two do not hold the same tensors.
    """
    vae = fuse(networks.vae.tensors, networks.vae_lora)
    yield _worst(model / "vae", read_safetensors(model / "vae" / WEIGHTS), vae)
    held, lora = read_safetensors(model / "unet" / WEIGHTS), read_branches(model)
    kept_apart = bool(lora) and bool(networks.lora)
    theirs = fuse(networks.unet.tensors, networks.unet_lora)
    yield _worst(
        model / "unet", held if kept_apart else fuse(held, lora), theirs if kept_apart else fuse(theirs, networks.lora)
    )
    if kept_apart:
        yield _worst(model / LORA, _halves(lora), _halves(networks.lora))


def _halves(lora: Branches) -> dict[str, np.ndarray]:
    return {f"{module}.{half}": getattr(branch, half) for module, branch in lora.items() for half in ("a", "b")}


def _worst(origin: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Difference:
    if differing := sorted(ours.keys() ^ theirs.keys()):
        raise ValueError(f"{origin} and the reference do not hold the same tensors: {', '.join(differing[:8])}")
    worst = max(
        (
            Difference.of(name, np.asarray(ours[name], np.float32), np.asarray(tensor, np.float32))
            for name, tensor in theirs.items()
        ),
        key=lambda difference: difference.largest,
    )
    return replace(worst, what=f"{origin.name}, {len(theirs)} tensors, {worst.what}")


def compare_outputs(model: Path, networks: Networks, photo: Path, side: int) -> Iterator[Difference]:
    """Run encode, UNet, decode, the whole restoration and the text encoder here and in PyTorch, on the same inputs.

    Args:
        model: the model folder.
        networks: those of the PyTorch files.
        photo: its middle, `side` pixels large, is what the networks see.
        side: a multiple of the networks' downsampling.

    Raises:
        ImportError: PyTorch, diffusers, or transformers is not installed, or PEFT, which LoRA needs.
        ValueError: the model has no UNet or no prompt.
    """
    told = read_model(model, ())
    if not (model / "unet").is_dir() or told.prompt_embedding is None:
        raise ValueError(f"{model} has no UNet or no prompt: there is no restoration to compare")
    x = middle(photo, side)
    # One after the other: both frameworks' networks together would take twice the memory.
    theirs = _run_reference(networks, told.card.step, told.prompt_embedding, x)
    ours = _run_ours(model, x, theirs["encode"])
    for what, expected in theirs.items():
        yield Difference.of(what, ours[what], expected)
    if (model / "text_encoder").is_dir():
        yield Difference.of("text encoder", told.prompt_embedding, _encode_prompt(model, told.card.prompt))


def _run_reference(networks: Networks, step: OneStep, prompt: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Run PyTorch's networks on the picture, and those in the middle on the latent of the first."""
    reference = _Reference(networks, step, prompt)
    latent = reference.encode(x)
    noise = reference.predict_noise(latent * networks.vae.config.scaling_factor)
    return {
        "encode": latent,
        "unet": noise,
        "decode": reference.decode(latent),
        RESTORATION: reference.restore(x),
    }


def _run_ours(model: Path, x: np.ndarray, latent: np.ndarray) -> dict[str, np.ndarray]:
    """Run ours on the same picture and latent."""
    folder = read_model(model)
    upscaler = Upscaler(replace(folder, card=replace(folder.card, posterior="mean")))
    vae, unet, step = upscaler.vae, upscaler.unet, folder.card.step
    assert unet is not None  # `compare_outputs` has looked
    # Not `restore`, which pads: the reference runs its networks on the picture alone.
    clean = restore_latent(vae.to_latent(x), unet, *step)
    results = {
        "encode": vae.encode(x).mean,
        "unet": unet(latent * vae.config.scaling_factor, np.array([step.time_step])),
        "decode": vae.decode(latent),
        RESTORATION: np.asarray(vae.to_image(clean)).clip(-1, 1),
    }
    return {what: np.asarray(result) for what, result in results.items()}


def _encode_prompt(model: Path, prompt: str) -> np.ndarray:
    """Encode a prompt by transformers, with the weights of the model folder."""
    import torch
    from transformers import CLIPTextModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    network = CLIPTextModel.from_pretrained(model / "text_encoder")
    tokens = torch.from_numpy(Tokenizer(model / "tokenizer")(prompt)).long()
    with torch.no_grad():
        return network(tokens).last_hidden_state[0].numpy()


def middle(photo: Path, side: int) -> np.ndarray:
    """Give the middle of a photo, (1, side, side, 3) in [-1, 1]."""
    with Image.open(photo) as image:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        crop = image.convert("RGB").crop((left, top, left + side, top + side))
    return from_uint8(np.asarray(crop))[None]


class _Reference:
    """diffusers' networks with the reference's tensors, LoRA in PEFT's hands; arrays are NHWC in and out."""

    def __init__(self, networks: Networks, step: OneStep, prompt: np.ndarray) -> None:
        import diffusers
        import torch

        self._torch = torch
        self._vae = self._load(diffusers.AutoencoderKL, networks.vae)
        self._unet = self._load(diffusers.UNet2DConditionModel, networks.unet)
        self._add_lora(self._vae, networks.vae_lora)
        self._add_lora(self._unet, networks.unet_lora, networks.lora)
        self._factor = networks.vae.config.scaling_factor
        self._step = step
        self._prompt = torch.from_numpy(prompt)[None]
        self._scheduler: Any = diffusers.DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
        )

    def _load(self, kind: Any, source: Network) -> Any:
        with self._torch.device("meta"):  # its own random weights would take as much memory again
            network = kind.from_config(source.config.to_json())
        arrays = {name: np.array(tensor, np.float32) for name, tensor in source.tensors.items()}
        state = {name: self._torch.from_numpy(array) for name, array in arrays.items()}
        network.load_state_dict(state, strict=True, assign=True)
        return network.eval()

    def _add_lora(self, network: Any, *adapters: Branches) -> None:
        """Let PEFT add every adapter to the network."""
        used = {f"adapter_{number}": lora for number, lora in enumerate(adapters) if lora}
        for name, lora in used.items():
            self._add_adapter(network, name, lora)
        for module in {module for lora in used.values() for module in lora}:
            network.get_submodule(module).set_adapter([name for name, lora in used.items() if module in lora])

    def _add_adapter(self, network: Any, name: str, lora: Branches) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        ((rank, alpha),) = {(len(branch.a), branch.alpha) for branch in lora.values()}
        settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": list(lora)}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several adapters are what is wanted
            inject_adapter_in_model(LoraConfig(**settings), network, name)
        for module, branch in lora.items():
            layer = network.get_submodule(module)
            for half, array in ((layer.lora_A, branch.a), (layer.lora_B, branch.b)):
                half[name].weight.data = self._torch.from_numpy(np.array(array, np.float32))

    def encode(self, x: np.ndarray) -> np.ndarray:
        return self._run(lambda image: self._vae.encode(image).latent_dist.mean, x)

    def predict_noise(self, z: np.ndarray) -> np.ndarray:
        return self._run(lambda latent: self._unet(latent, self._step.time_step, self._prompt).sample, z)

    def decode(self, z: np.ndarray) -> np.ndarray:
        return self._run(lambda latent: self._vae.decode(latent).sample, z)

    def restore(self, x: np.ndarray) -> np.ndarray:
        z = self.encode(x) * self._factor
        noise, noisy = (self._torch.from_numpy(array) for array in (self.predict_noise(z), z))
        clean = self._scheduler.step(noise, self._step.time_step, noisy).pred_original_sample
        if self._step.prediction == "residual":
            clean = noisy - noise
        return self.decode(clean.numpy() / self._factor).clip(-1, 1)

    def _run(self, network: Any, x: np.ndarray) -> np.ndarray:
        with self._torch.no_grad():
            result = network(self._torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)))
        return result.permute(0, 2, 3, 1).numpy()
