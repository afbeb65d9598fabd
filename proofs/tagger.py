"""The tagger at full size beside PyTorch: `python -m proofs.tagger --work DIR --tags FILE --thresholds FILE`.

Writes RAM and DAPE of random weights in the published files' layout (0.9 GB), imports them, and compares the logits of
noise of 384x384 pixels with transformers' Swin and BLIP's text layers, to which DAPE is added here; prints differences,
times and memory. The two files are of RAM's repository. Both frameworks run in this process, by turns, in float32. The
time of all cores together is that of this process, of which other work on the machine tells little.
"""

import importlib
import math
import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks import report
from convert.to_tagger import import_ram
from convert.torch_writer import write_torch
from tvt_jax.models.tagger import RAM, TaggerConfig
from tvt_jax.tagger_folder import read_tagger

RANK = 8
HEAD = "tagging_head.encoder.layer.{}.crossattention.self.{}"
Logits = Callable[[np.ndarray], np.ndarray]
Seconds = dict[tuple[str, Callable[[], float]], float]  # of a contender, by a clock


@dataclass(frozen=True, kw_only=True)
class Options:
    """The tagger at full size.

    Attributes:
        work: a folder for the files, 2 GB.
        tags: ram_tag_list.txt.
        thresholds: ram_tag_list_threshold.txt.
        rounds: timed runs of each; the fastest counts. One before them is not timed.
    """

    work: Path
    tags: Path
    thresholds: Path
    rounds: int = 3


def random_dape(ram: dict[str, np.ndarray], config: TaggerConfig) -> dict[str, np.ndarray]:
    """Draw DAPE's LoRA, about as large as the weights: on query and value of Swin, query and key of the decoder."""
    generator, tensors = np.random.default_rng(1), dict[str, np.ndarray]()
    layers = [name.removesuffix(".weight") for name in ram if name.endswith("attn.qkv.weight")]
    layers += [HEAD.format(i, part) for i in range(config.num_hidden_layers) for part in ("query", "key")]
    for layer in layers:
        rows, columns = ram[f"{layer}.weight"].shape
        halves = ((2 * RANK, columns), (rows * 2 // 3, RANK)) if "qkv" in layer else ((RANK, columns), (rows, RANK))
        for half, shape in zip("AB", halves, strict=True):
            tensors[f"{layer}.lora_{half}"] = generator.standard_normal(shape, np.float32) * np.float32(columns**-0.25)
    return tensors


def merged(ram: dict[str, np.ndarray], dape: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add DAPE's LoRA by loralib's arithmetic: B A / rank, in Swin for query and value by themselves."""
    result = dict(ram)
    for name in [name.removesuffix(".lora_A") for name in dape if name.endswith(".lora_A")]:
        a, b, weight = dape[f"{name}.lora_A"], dape[f"{name}.lora_B"], ram[f"{name}.weight"].copy()
        if name.endswith("attn.qkv"):
            width = weight.shape[1]
            weight[:width] += b[:width] @ a[:RANK] / RANK
            weight[2 * width :] += b[width:] @ a[RANK:] / RANK
        else:
            weight += b @ a / RANK
        result[f"{name}.weight"] = weight
    return result


def measure(options: Options) -> Iterator[tuple[str, str]]:
    """Give what was measured, and the figure."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # PyTorch's threads that wait take no time
    torch: Any = importlib.import_module("torch")
    reference: Any = importlib.import_module("tests.models.torch_tagger")  # it is the tests' reference
    config = TaggerConfig()
    ram = reference.random_ram(config)
    dape = random_dape(ram, config)
    options.work.mkdir(parents=True, exist_ok=True)
    write_torch(options.work / "ram.pth", {"model": ram})
    write_torch(options.work / "dape.pth", dape)
    whole = {name: torch.from_numpy(tensor) for name, tensor in merged(ram, dape).items()}
    lists = {"tags": options.tags, "thresholds": options.thresholds}
    import_ram(options.work / "ram.pth", options.work / "tagger", dape=options.work / "dape.pth", **lists)
    folder = read_tagger(options.work / "tagger")
    thresholds = np.array([*folder.card.tags.values()])
    contenders = {"ours": ours(folder), "PyTorch": reference.network(whole, config)}
    image = np.random.default_rng(2).standard_normal((1, 384, 384, 3), np.float32)
    logits, seconds = run(contenders, image, options.rounds)
    mine, theirs = logits["ours"], logits["PyTorch"]
    deviation = theirs.std()
    yield "largest difference of logits", f"{np.abs(mine - theirs).max() / deviation:.1e} of their deviation"
    yield (
        "the LoRA's share",
        f"{np.abs(reference_without(reference, ram, config, image) - theirs).max() / deviation:.1f}",
    )
    found = [1 / (1 + np.exp(-x[0].astype(float))) > thresholds for x in (mine, theirs)]
    yield "tags", f"{found[0].sum()} and {found[1].sum()}, {(found[0] != found[1]).sum()} differ"
    for clock, what in ((time.perf_counter, "one picture"), (time.process_time, "one picture, all cores together")):
        own, other = (seconds[name, clock] for name in contenders)
        yield what, f"{own:.2f} s, PyTorch {other:.2f} s, ratio {own / other:.2f}"
    yield "memory of both at most", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB"


def reference_without(
    reference: Any, ram: dict[str, np.ndarray], config: TaggerConfig, image: np.ndarray
) -> np.ndarray:
    """Run PyTorch's RAM without DAPE, to show that it counts."""
    torch: Any = importlib.import_module("torch")
    return reference.network({name: torch.from_numpy(tensor) for name, tensor in ram.items()}, config)(image)


def ours(folder: Any) -> Logits:
    """Give our network as the tagger runs it, logits in place of probabilities."""
    network, params = RAM(folder.config), jax.device_put(folder.params)

    @jax.jit
    def apply(params: Any, image: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return network.apply({"params": params}, image)

    return lambda image: np.asarray(apply(params, image))


def run(contenders: dict[str, Logits], image: np.ndarray, rounds: int) -> tuple[dict[str, Any], Seconds]:
    """Let them take turns; give the results, and the fewest seconds of each by each clock."""
    logits = {name: contender(image) for name, contender in contenders.items()}
    seconds: Seconds = {}
    for _ in range(rounds):
        for name, contender in contenders.items():
            begin = {clock: clock() for clock in (time.perf_counter, time.process_time)}
            contender(image)
            for clock, before in begin.items():
                seconds[name, clock] = min(seconds.get((name, clock), math.inf), clock() - before)
    return logits, seconds


def main() -> None:
    """Print what was measured."""
    for what, figure in measure(tyro.cli(Options, description=__doc__)):
        print(f"| {what} | {figure} |", flush=True)


if __name__ == "__main__":
    report.run_as_command(main)
