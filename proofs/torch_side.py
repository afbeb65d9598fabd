"""The PyTorch half of `proofs.conversion_versions`: run by another environment's Python, which has no JAX.

`torch_side.py write FOLDER` makes a small Stable Diffusion, saves it in every form that these versions know, and its
results; `torch_side.py check EXPORT RESULTS` and `check-unet` load an export, strictly, and print how far off they are.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import peft
import torch
import transformers

STEP = 1
BLOCKS: dict[str, Any] = {"block_out_channels": (4, 4), "layers_per_block": 1, "norm_num_groups": 2}
UNET: dict[str, Any] = {
    **BLOCKS,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (2, 2),
    "cross_attention_dim": 4,
    "use_linear_projection": True,
    "sample_size": 64,
}
VAE: dict[str, Any] = {
    **BLOCKS,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TEXT: dict[str, Any] = {
    "vocab_size": 520,
    "hidden_size": 4,
    "intermediate_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "projection_dim": 3,
}
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}
PROMPT = "A photo, 4 km: don't!"
LORA = {"default_encoder": ["conv_in"], "default_others": ["attn1.to_q", "attn2.to_v"]}
LISTS = ("unet_lora_encoder_modules", "unet_lora_decoder_modules", "unet_lora_others_modules")


def fill(network: Any, seed: int) -> Any:
    """Draw weights that float16 holds exactly, so that its copies give the same results."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.parameters():
        tensor.data = torch.randint(-256, 256, tensor.shape, generator=generator) / 512
    return network.eval()


def byte_letters() -> list[str]:
    """Give the letters that byte-level tokenizers write bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(x) for x in plain] + [chr(256 + x) for x in range(256 - len(plain))]


def tokenizer(folder: Path) -> Any:
    """Make CLIP's tokenizer of single letters."""
    folder.mkdir(parents=True)
    letters = byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = {"vocab_file": str(folder / "vocab.json"), "merges_file": str(folder / "merges.txt")}
    if transformers.__version__ < "5":
        return transformers.CLIPTokenizer(**files, pad_token="!", model_max_length=77)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="!", model_max_length=77)


def make(folder: Path) -> Any:
    """Make the pipeline."""
    text = transformers.CLIPTextConfig(**TEXT)
    return diffusers.StableDiffusionPipeline(
        vae=fill(diffusers.AutoencoderKL(**VAE), 1),
        unet=fill(diffusers.UNet2DConditionModel(**UNET), 2),
        text_encoder=fill(transformers.CLIPTextModel(text), 3),
        tokenizer=tokenizer(folder),
        scheduler=diffusers.DDPMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def results(vae: Any, unet: Any, text_encoder: Any, tokens: np.ndarray) -> dict[str, Any]:
    """Run each of the networks on the same numbers."""
    generator = torch.Generator().manual_seed(7)
    image, latent = torch.rand(1, 3, 8, 8, generator=generator), torch.rand(1, 4, 4, 4, generator=generator)
    with torch.no_grad():
        hidden = text_encoder(torch.from_numpy(tokens)[None]).last_hidden_state
        outputs = {
            "encode": vae.encode(image).latent_dist.mean,
            "decode": vae.decode(latent).sample,
            "unet": unet(latent, STEP, hidden).sample,
            "text": hidden,
        }
    inputs = {"image": image, "latent": latent}
    return {"tokens": tokens} | {name: x.numpy() for name, x in (inputs | outputs).items()}


def forms(pipeline: Any) -> dict[str, Callable[[Path], None]]:
    """Give the ways in which these versions can save."""

    def saved(half: bool = False, **options: Any) -> Callable[[Path], None]:
        def save(folder: Path) -> None:
            pipeline.to(dtype=torch.float16 if half else torch.float32).save_pretrained(folder, **options)

        return save

    fp16: dict[str, Any] = {"half": True, "variant": "fp16"}
    shards: dict[str, Any] = {"max_shard_size": "6KB"}
    return {
        "safetensors": saved(),
        "bin": saved(safe_serialization=False),
        "fp16": saved(**fp16),
        "fp16 bin": saved(**fp16, safe_serialization=False),
        "shards": saved(**shards),
        "fp16 shards": saved(**fp16, **shards),
        "shards of bin": saved(**shards, safe_serialization=False),
        "each part by itself": lambda folder: save_parts(pipeline, folder, max_shard_size="6KB"),
        "wrapped": lambda folder: save_wrapped(pipeline, folder),
        "with projection": lambda folder: save_projection(pipeline, folder),
    }


def save_parts(pipeline: Any, folder: Path, **options: Any) -> None:
    """Save as the pipeline does, each part by its own; older pipelines know no shards, but transformers does."""
    pipeline.to(dtype=torch.float32)
    for name, part in (("vae", pipeline.vae), ("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder)):
        part.save_pretrained(folder / name, **(options if name == "text_encoder" else {}))
    for name, other in (("tokenizer", pipeline.tokenizer), ("scheduler", pipeline.scheduler)):
        other.save_pretrained(folder / name)


def save_wrapped(pipeline: Any, folder: Path) -> None:
    """Save what training scripts do: state dicts of parallel and of compiled networks, in the old format too."""
    save_parts(pipeline, folder)
    files = {"vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model", "text_encoder": "pytorch_model"}
    for name, stem in files.items():
        network: Any = torch.compile(torch.nn.DataParallel(getattr(pipeline, name)))
        for file in (folder / name).glob("*.safetensors"):
            file.unlink()
        torch.save(network.state_dict(), folder / name / f"{stem}.bin", _use_new_zipfile_serialization=name == "unet")


def save_projection(pipeline: Any, folder: Path) -> None:
    """Save the text encoder with the projection that Stable Diffusion passes by."""
    save_parts(pipeline, folder)
    network = transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**TEXT))
    network = fill(network, 4)
    ours = network.state_dict()
    theirs = pipeline.text_encoder.state_dict()
    ours.update({name if name in ours else f"text_model.{name}": tensor for name, tensor in theirs.items()})
    network.load_state_dict(ours, strict=True)
    network.save_pretrained(folder / "text_encoder")


def write_release(pipeline: Any, folder: Path, tokens: np.ndarray) -> dict[str, Any]:
    """Save the UNet with PEFT's LoRA as the TVT release does, and a VAE; give the UNet's results."""
    pipeline.unet.save_pretrained(folder / "TVTUNet" / "unet")
    vae = {f"vaeDe4.{name}": x for name, x in pipeline.vae.state_dict().items() if ".mid_block." not in name}
    torch.save({"state_dict": vae, "global_step": 1}, folder / "vae.ckpt")
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "TVTUNet" / "unet").eval()
    for adapter, modules in LORA.items():
        config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=modules)
        peft.inject_adapter_in_model(config, unet, adapter_name=adapter)
    for module in unet.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.set_adapter(list(module.lora_A.keys()))
    generator = torch.Generator().manual_seed(8)
    for name, tensor in unet.named_parameters():
        if ".lora_" in name:
            tensor.data = torch.randint(-256, 256, tensor.shape, generator=generator) / 512
    state = {x: y for x, y in unet.state_dict().items() if "lora" in x or x.startswith("conv_in.base_layer")}
    torch.save({**{name: [] for name in LISTS}, "rank_unet": 4, "state_dict_unet": state}, folder / "model_TVT.pkl")
    return results(pipeline.vae, unet, pipeline.text_encoder, tokens)


def write(folder: Path) -> None:
    """Save everything, and say what these versions cannot."""
    pipeline = make(folder / "letters")
    said = pipeline.tokenizer(PROMPT, padding="max_length", max_length=77, truncation=True)
    tokens = np.array(said["input_ids"], np.int64)
    outcomes = {}
    for name, save in forms(pipeline).items():
        try:
            save(folder / name)
            outcomes[name] = "written"
        except (TypeError, ValueError, AttributeError) as error:
            outcomes[name] = f"{type(error).__name__}: {error}"
    pipeline.to(dtype=torch.float32)
    np.savez(folder / "results.npz", **results(pipeline.vae, pipeline.unet, pipeline.text_encoder, tokens))
    np.savez(folder / "release.npz", **write_release(pipeline, folder / "release", tokens))
    versions = {module.__name__: module.__version__ for module in (diffusers, transformers, peft, torch)}
    (folder / "versions.json").write_text(json.dumps({**versions, "forms": outcomes}, indent=2) + "\n")


def load(kind: Any, folder: Path) -> Any:
    """Load a network strictly.

    Raises:
        ValueError: a tensor is missing, over, or of another shape.
    """
    network, report = kind.from_pretrained(folder, output_loading_info=True)
    if any(report.values()):
        raise ValueError(f"{folder} was not loaded strictly: {report}")
    return network.float().eval()


def check(export: Path, expected: Path) -> dict[str, float]:
    """Give the largest difference of each network from what the file holds."""
    with np.load(expected) as file:
        wanted = dict(file)
    kinds = {
        "vae": diffusers.AutoencoderKL,
        "unet": diffusers.UNet2DConditionModel,
        "text_encoder": transformers.CLIPTextModel,
    }
    networks = {name: load(kind, export / name) for name, kind in kinds.items()}
    found = results(**networks, tokens=wanted["tokens"])
    said = transformers.CLIPTokenizer.from_pretrained(export / "tokenizer")(PROMPT, padding="max_length", max_length=77)
    found["tokens"] = np.array(said["input_ids"])
    diffusers.DDPMScheduler.from_pretrained(export / "scheduler")
    return {name: float(np.abs(found[name] - x).max()) for name, x in wanted.items()}


def check_unet(folder: Path, expected: Path, lora: Path | None = None) -> dict[str, float]:
    """Give the same of the UNet alone, with LoRA that PEFT loads from a folder."""
    with np.load(expected) as file:
        wanted = dict(file)
    unet = load(diffusers.UNet2DConditionModel, folder / "unet")
    if lora:
        unet = peft.PeftModel.from_pretrained(unet, lora)
    latent, hidden = (torch.from_numpy(wanted[name]) for name in ("latent", "text"))
    with torch.no_grad():
        return {"unet": float(np.abs(unet(latent, STEP, hidden).sample.numpy() - wanted["unet"]).max())}


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "write":
        write(Path(words[0]))
    else:
        run: Any = check if command == "check" else check_unet
        print(json.dumps(run(*map(Path, words))))
