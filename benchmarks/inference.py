"""How long a picture takes and how much memory, beside PyTorch and diffusers with the same weights on the same CPU.

    python -m benchmarks.inference --work DIR [--method tvt|tvt-without-attention|osediff|pisasr]

Each contender runs in a process of its own, and they take turns, so that a busy machine is busy for both. Networks of
the method's size with random weights are made in DIR (3.7 GB); `--model tvt_jax/pretrained/tiny` takes others.
PiSA-SR is timed in one pass; the second that its strengths take is its UNet again.
"""

import importlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks.random_weights import RandomTensor, random_tensors
from benchmarks.timing import use_cores
from configs.sd21.shapes import PRIOR, STUDENT, VAE_D4, VAE_D8
from tvt_jax.model_folder import ModelCard, Network, replaced, write_parts
from tvt_jax.models.shapes import tensor_shapes
from tvt_jax.stages.student import add_level

ROOT = Path(__file__).parents[1]
CONTENDERS, PARTS = ("ours", "pytorch"), ("encode", "unet", "decode")
Step = Callable[[Any], Any]
Method = Literal["tvt", "tvt-without-attention", "osediff", "pisasr"]
# The networks of each method, and what its card says.
METHODS: dict[Method, tuple[Any, Any, ModelCard]] = {
    "tvt": (VAE_D4, STUDENT, ModelCard()),
    "tvt-without-attention": (VAE_D4, add_level(PRIOR), ModelCard()),
    "osediff": (VAE_D8, PRIOR, ModelCard(time_step=999)),
    "pisasr": (VAE_D8, PRIOR, ModelCard(prediction="residual")),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Time and memory of one picture.

    Attributes:
        work: a folder for the random model and the results.
        method: whose networks are made in `work`, of full size.
        model: a model folder in their place.
        side: of the picture; its result is four times as large.
        rounds: timed runs of each; the fastest counts. One before them is not timed.
        cores: that each may use.
    """

    work: Path
    method: Method = "tvt"
    model: Path | None = None
    side: int = 128
    rounds: int = 2
    cores: int = 2


def start(name: str, model: Path, options: Options) -> Popen:
    """Start a contender's process, which runs once for each line it is sent."""
    words = map(str, (name, model.resolve(), 4 * options.side, options.cores, options.work.resolve()))
    command = [sys.executable, "-c", "import sys; from benchmarks.inference import serve; serve(*sys.argv[1:])"]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE"}  # who waits takes no time
    return Popen([*command, *words], cwd=ROOT, env=env, stdin=PIPE, stdout=PIPE, text=True)


def run(contender: Popen) -> dict[str, float]:
    """Let it run once; seconds of each part and of all cores, peak memory so far. Raises ValueError if it ends."""
    assert contender.stdin and contender.stdout
    print(file=contender.stdin, flush=True)
    for line in contender.stdout:
        return json.loads(line)
    contender.communicate()
    raise ValueError(f"a contender ended with status {contender.returncode}; it says why above")


def serve(name: str, model: str, side: str, cores: str, work: str) -> None:
    """Do what a contender's process does."""
    use_cores(int(cores))
    steps = {"ours": ours, "pytorch": pytorch}[name](Path(model))
    picture = np.random.default_rng(0).random((1, int(side), int(side), 3), np.float32) * 2 - 1
    for _ in sys.stdin:
        figures, value, spent = {}, picture, time.process_time()
        for part in PARTS:
            begin = time.perf_counter()
            value = steps[part](value)
            figures[part] = time.perf_counter() - begin
        figures["processors"] = time.process_time() - spent
        figures["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
        np.save(f"{work}/{name}.npy", np.asarray(value, np.float32))
        print(json.dumps(figures), flush=True)


def ours(model: Path) -> dict[str, Step]:
    """Give the three networks as `tvt_jax.inference` runs them."""
    import jax

    from tvt_jax.diffusion import restore_latent
    from tvt_jax.inference.upscaler import load

    upscaler = load(model)

    def restore(z: jax.Array) -> jax.Array:
        assert upscaler.unet is not None
        return restore_latent(z, upscaler.unet, *upscaler.card.step).block_until_ready()

    return {
        "encode": lambda x: upscaler.vae.to_latent(x).block_until_ready(),
        "unet": restore,
        "decode": lambda z: upscaler.vae.to_image(z).block_until_ready(),
    }


def pytorch(model: Path, device: str = "cpu", dtype: str = "float32") -> dict[str, Step]:
    """Give the same by diffusers, whose attention is torch's scaled_dot_product_attention."""
    torch, diffusers = (importlib.import_module(name) for name in ("torch", "diffusers"))
    tensors = importlib.import_module("safetensors.torch").load_file(model / "prompt_embedding.safetensors")
    where = {"device": device, "dtype": getattr(torch, dtype)}
    prompt, card = tensors["prompt"][None].to(**where), json.loads((model / "tvt.json").read_text())
    t = card["time_step"]
    vae = diffusers.AutoencoderKL.from_pretrained(model / "vae").eval().to(**where)
    unet = diffusers.UNet2DConditionModel.from_pretrained(model / "unet").eval().to(**where)
    if not vae.config.mid_block_add_attention:  # diffusers' way to say that there is no middle block: do not run it
        for half in (vae.encoder, vae.decoder):
            half.mid_block.forward = lambda x, *_: x
    schedule = diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    factor, signal = vae.config.scaling_factor, float(schedule.alphas_cumprod[t])

    def restore(z: Any) -> Any:
        predicted = unet(z, t, prompt).sample
        if card.get("prediction") == "residual":
            return z - predicted
        return (z - (1 - signal) ** 0.5 * predicted) / signal**0.5

    steps: dict[str, Step] = {
        "encode": lambda x: vae.encode(torch.from_numpy(x).to(**where).permute(0, 3, 1, 2)).latent_dist.mean * factor,
        "unet": restore,
        "decode": lambda z: vae.decode(z / factor).sample.permute(0, 2, 3, 1),
    }
    return {part: torch.inference_mode()(step) for part, step in steps.items()}


def write_random_model(folder: Path, vae: Any, unet: Any, card: ModelCard) -> None:
    """Write a model folder of two configurations with random weights."""
    networks = {name: Network(x, random_tensors(tensor_shapes(x))) for name, x in (("vae", vae), ("unet", unet))}
    prompts = {"prompt": np.asarray(RandomTensor("prompt", (77, unet.cross_attention_dim)))}
    with replaced(folder) as partial:
        write_parts(partial, card, networks, prompts, "float32")


def fastest(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Give the least time of each part, of the whole and of all cores together; the last word on memory."""
    parts = {part: min(each[part] for each in rounds) for part in (*PARTS, "processors")}
    whole = min(sum(each[part] for part in PARTS) for each in rounds)
    return {**parts, "whole": whole, "memory": rounds[-1]["memory"]}


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """In Markdown."""
    lines = ["| | ours | PyTorch + diffusers | ours / PyTorch |", "|---|---|---|---|"]
    for name in figures["ours"]:
        scale, unit = (1e9, "GB") if name == "memory" else (1, "s")
        pair = [figures[contender][name] / scale for contender in CONTENDERS]
        lines.append(f"| {name} | {pair[0]:.2f} {unit} | {pair[1]:.2f} {unit} | {pair[0] / pair[1]:.2f} |")
    return "\n".join(lines)


def processor() -> str:
    """Give the processor's name as Linux tells it, and the widest vectors that it knows."""
    told = Path("/proc/cpuinfo").read_text()
    names = re.findall(r"model name\s*: (.*)", told)
    return " ".join([*names[:1], *[word for word in ("avx2", "avx512f") if word in told][-1:]])


def measure(options: Options) -> dict[str, Any]:
    """Let the two take turns and compare their results."""
    options.work.mkdir(parents=True, exist_ok=True)
    model = options.model or options.work / options.method
    if not (options.model or model.exists()):
        write_random_model(model, *METHODS[options.method])
    contenders = {name: start(name, model, options) for name in CONTENDERS}
    rounds = [{name: run(one) for name, one in contenders.items()} for _ in range(1 + options.rounds)]
    for one in contenders.values():
        one.communicate()
    mine, theirs = (np.load(options.work / f"{name}.npy") for name in CONTENDERS)
    return {
        "processor": processor(),
        "cores": options.cores,
        "side": options.side,
        "model": model.name,
        "difference": float(np.abs(mine - theirs).max() / np.abs(theirs).max()),
        "figures": {name: fastest([each[name] for each in rounds[1:]]) for name in CONTENDERS},
    }


def main() -> None:
    """Print the table and keep the figures in `work`."""
    result = measure(options := tyro.cli(Options))
    (options.work / f"{result['model']}.json").write_text(json.dumps(result, indent=1))
    print(f"{result['processor']}, {options.cores} cores: {options.side} -> {4 * options.side}, {result['model']}")
    print(f"largest difference of the results, as a share of the largest value: {result['difference']:.1e}\n")
    print(table(result["figures"]))


if __name__ == "__main__":
    main()
