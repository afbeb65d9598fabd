"""What `benchmarks.accelerator` measures in each of its processes."""

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import tvt_jax
from benchmarks import inference, timing
from configs.sd21 import shapes
from tvt_jax.data.pipeline import batch_shapes
from tvt_jax.losses.perceptual import PerceptualLoss
from tvt_jax.model_folder import ModelCard
from tvt_jax.models import attend
from tvt_jax.models.discriminator import PatchDiscriminator, PatchDiscriminatorConfig
from tvt_jax.models.shapes import initial_params
from tvt_jax.models.unet import PLAIN_BLOCK, UNet2DConditionConfig, UNet2DConditionModel
from tvt_jax.models.vae import AutoencoderKL, AutoencoderKLConfig
from tvt_jax.stages.student import add_level
from tvt_jax.train.chips import chip_of, machine_of
from tvt_jax.train.config import TrainConfig
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh

VAE_D8 = AutoencoderKLConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=0, norm_num_groups=4)
VAE_D4 = replace(VAE_D8, block_out_channels=(8, 8, 8), mid_block=False)
PRIOR = UNet2DConditionConfig(
    block_out_channels=(8, 8),
    down_block_types=(PLAIN_BLOCK, PLAIN_BLOCK),
    layers_per_block=1,
    attention_heads=(2, 2),
    cross_attention_dim=8,
    norm_num_groups=4,
)
_ROUNDS = 10
_IMAGES = {"decoder": 8, "encoder": 8, "adapt": 4}  # a device
Row = dict[str, float]


def figures_of(case: str, tiny: bool, work: str) -> dict[str, Any]:
    """Measure a case; its rows, and what it was measured on."""
    kind, *what = case.split(":")
    measures: dict[str, Callable[..., dict[str, Any]]] = {
        "parity": _parity,
        "attention": _attention,
        "stage": _stage,
        "upscale": partial(_upscale, work=Path(work)),
        "pytorch": partial(_pytorch, work=Path(work)),
    }
    found = measures[kind](*what, tiny=tiny)
    return {"machine": machine_of(jax.device_count(), jax.devices()[0]), "jax": jax.__version__} | found


def _parity(what: str, tiny: bool) -> dict[str, Any]:
    """Compare with the CPU, in float32, with products in full precision and as they are by default."""
    measure = {"networks": _networks, "gradients": _gradients}[what]
    reference = measure(jax.devices("cpu")[0], "highest")
    rows: dict[str, Row] = {name: {} for name in reference}
    for precision in ("highest", "default"):
        for name, value in measure(jax.devices()[0], precision).items():
            largest = np.abs(reference[name]).max() or 1.0
            rows[name][f"difference, {precision} precision"] = float(np.abs(value - reference[name]).max() / largest)
    return {"rows": rows}


def _networks(device: Any, precision: str) -> dict[str, np.ndarray]:
    """Give the results of all networks of training on the same inputs, with the same weights."""
    draw = np.random.default_rng(0)
    image, latent, text = (
        jnp.asarray(draw.standard_normal(shape, np.float32)) for shape in ((2, 64, 64, 3), (2, 16, 16, 4), (2, 77, 8))
    )
    image = jnp.tanh(image)
    perceptual = PerceptualLoss(lpips_net="vgg", dists_weight=1.0)
    calls: dict[str, tuple[Callable[..., Any], Any]] = {}
    for name, config in (("8x", VAE_D8), ("4x", VAE_D4)):
        vae, params = AutoencoderKL(config), _params(config)
        calls[f"VAE {name}, encode"] = lambda p, vae=vae: vae.apply({"params": p}, image, method="encode").mean, params
        calls[f"VAE {name}, decode"] = lambda p, vae=vae: vae.apply({"params": p}, latent, method="decode"), params
    for name, unet in (("prior", PRIOR), ("student", add_level(PRIOR))):
        network = UNet2DConditionModel(unet)
        calls[f"UNet, {name}"] = (
            lambda p, network=network: network.apply({"params": p}, latent, jnp.ones(2, int), text),
            _params(unet),
        )
    critic = PatchDiscriminatorConfig(features=4, layers=2)
    calls["discriminator"] = lambda p: PatchDiscriminator(critic).apply({"params": p}, image), _params(critic)
    for index, name in enumerate(("LPIPS", "DISTS")):
        calls[name] = (
            lambda p, index=index: list(perceptual.distances(p, image, image[::-1]).values())[index],
            perceptual.load(),
        )
    with jax.set_mesh(make_mesh(1, 1, [device])), jax.default_matmul_precision(precision):
        return {name: np.asarray(jax.jit(call)(params), np.float32) for name, (call, params) in calls.items()}


def _gradients(device: Any, precision: str) -> dict[str, np.ndarray]:
    """Give the gradients of a step of each stage, as Adam's first mean holds them after it, all in a row."""
    with jax.default_matmul_precision(precision):
        return {name: _first_means(name, device) for name in _IMAGES}


def _first_means(stage: str, device: Any) -> np.ndarray:
    program, state, batch = _start(_config(stage, tiny=True, images=2), [device])
    state, _ = program.compile_step(batch).run(state, program.frozen, batch)
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(state.opt_state))
    means = [np.ravel(leaf) for path, leaf in leaves if ".mu" in jax.tree_util.keystr(path)]
    return np.concatenate(means).astype(np.float32)


def _attention(dtype: str, tiny: bool) -> dict[str, Any]:
    """Time each way to attend that the platform has, forwards alone and with gradients."""
    sizes = ((128, 128), (128, 77)) if tiny else ((16384, 16384), (4096, 4096), (16384, 77))
    rows = {}
    for tokens, others in sizes:
        query, key = (jnp.asarray(jax.random.normal(jax.random.key(n), (1, n, 5, 64)), dtype) for n in (tokens, others))
        for name, kernel in _kernels(query, key).items():
            rows[f"{tokens} x {others}, {name}"] = _time_attention(kernel, query, key)
    return {"rows": rows}


def _kernels(query: jax.Array, key: jax.Array) -> dict[str, Callable[..., jax.Array]]:
    """Give those that fit: what training takes comes first."""
    flash = {f"flash, {tile.queries} x {tile.keys}": tile for tile in (attend._CPU_TILE, attend._OTHER_TILE)}
    plain = jax.nn.dot_product_attention
    kernels: dict[str, Callable[..., jax.Array]] = {"as in training": attend.attend, "jax's, xla": plain}
    kernels |= {name: partial(attend.flash, tile=tile) for name, tile in flash.items()}
    if jax.default_backend() == "gpu" and query.dtype != jnp.float32:
        kernels["cudnn"] = partial(plain, implementation="cudnn")
    if jax.default_backend() == "tpu" and query.shape[1] % attend._TILE == key.shape[1] % attend._TILE == 0:
        kernels["splash"] = attend._splash
    return kernels


def _time_attention(kernel: Callable[..., jax.Array], query: jax.Array, key: jax.Array) -> Row:
    def forward(query: jax.Array, key: jax.Array) -> jax.Array:
        return kernel(query, key, key)

    gradients = jax.grad(lambda *parts: forward(*parts).astype(jnp.float32).sum(), argnums=(0, 1))
    try:
        times = [_seconds(partial(jax.jit(call), query, key)) for call in (forward, gradients)]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {}
    flops = 4.0 * query.size * key.shape[1]
    return {
        "forward, ms": 1e3 * times[0],
        "with gradients, ms": 1e3 * times[1],
        "forward, TFLOP/s": flops / times[0] / 1e12,
    }


def _stage(name: str, tiny: bool) -> dict[str, Any]:
    """Train with random weights on random images, on all devices."""
    images = 2 if tiny else _IMAGES[name]
    program, state, batch = _start(_config(name, tiny, images * jax.device_count()), jax.devices())
    begin = time.perf_counter()
    step = program.compile_step(batch)
    compiling, times = time.perf_counter() - begin, []
    for _ in range(1 + (2 if tiny else _ROUNDS)):
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step.run(state, program.frozen, batch))
        times.append(time.perf_counter() - begin)
    seconds = statistics.median(times[1:])
    row = {
        "images a device": images,
        "steps/s": 1 / seconds,
        "images/s a device": images / seconds,
        "TFLOP/s a device": step.flops / seconds / 1e12,
    }
    if peak := chip_of(jax.devices()[0]).flops:
        row["% of the peak"] = 100 * step.flops / seconds / peak
    return {"rows": {"": row | _memory() | {"compiling, s": compiling}}}


def _start(config: TrainConfig, devices: list[Any]) -> tuple[Program, Any, Any]:
    """Make the program, the state and a batch of noise; all frozen parameters are drawn at random."""
    frozen = _random(config.stage.abstract())
    program = Program(config, make_mesh(0, 1, devices), frozen)
    draw = np.random.default_rng(0)
    batch = {name: draw.integers(0, 256, shape, np.uint8) for name, shape in batch_shapes(config.data).items()}
    return program, program.init(frozen), program.put(batch)


def _config(name: str, tiny: bool, images: int) -> TrainConfig:
    """Take the configuration of the full size, or the same with eight channels."""
    config = importlib.import_module(f"configs.sd21.{name}").config()
    data = replace(config.data, batch=images, **({"crop": 64} if tiny else {}))
    stage = config.stage
    if tiny:
        small = {"vae": VAE_D4, "compute": replace(stage.compute, dtype="float32")}
        if name == "adapt":
            small |= {"prior": PRIOR, "student": add_level(PRIOR), "perceptual": PerceptualLoss(lpips_net="alex")}
        else:
            small |= {"source_vae": VAE_D8, "discriminator": PatchDiscriminatorConfig(features=4, layers=1)}
            small |= {"perceptual": PerceptualLoss(lpips_net="alex")}
        stage = replace(stage, **small)
    return replace(config, stage=stage, data=data, evaluation=None)


def _upscale(side: str, dtype: str, tiny: bool, work: Path) -> dict[str, Any]:
    """Upscale one picture to that side as `tvt upscale` does, whole."""
    upscaler = tvt_jax.load(_model(work, tiny), dtype=dtype)
    picture = np.random.default_rng(0).integers(0, 256, (int(side) // 4, int(side) // 4, 3), np.uint8)
    return {"rows": {"": {"s": _seconds(lambda: upscaler.upscale(picture))} | _memory()}}


def _pytorch(side: str, dtype: str, tiny: bool, work: Path) -> dict[str, Any]:
    """Run the three networks by diffusers on the same kind of device."""
    if missing := [name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None]:
        return {"left out": f"{' and '.join(missing)} not installed"}
    torch = importlib.import_module("torch")
    on_gpu = torch.cuda.is_available()
    if jax.default_backend() != ("gpu" if on_gpu else "cpu"):
        return {"left out": f"PyTorch has no {jax.default_backend()} here"}
    steps = inference.pytorch(_model(work, tiny), "cuda" if on_gpu else "cpu", dtype)
    picture = np.random.default_rng(0).random((1, int(side), int(side), 3), np.float32) * 2 - 1

    def restore() -> Any:
        value: Any = picture
        for part in inference.PARTS:
            value = steps[part](value)
        return value.float().cpu()

    row = {"s": _seconds(restore)}
    return {"rows": {"": row | ({"GiB": torch.cuda.max_memory_allocated() / 2**30} if on_gpu else {})}}


def _model(work: Path, tiny: bool) -> Path:
    """Write a model folder of random weights, if it is not there."""
    folder = work / "model"
    if not folder.exists():
        networks = (VAE_D4, add_level(PRIOR)) if tiny else (shapes.VAE_D4, shapes.STUDENT)
        inference.write_random_model(folder, *networks, ModelCard())
    return folder


def _params(config: Any) -> Any:
    with jax.default_device(jax.devices("cpu")[0]):
        return jax.device_get(jax.jit(partial(initial_params, config=config))(jax.random.key(0)))


def _random(tree: Any) -> Any:
    """Draw kernels of length about 1 a row, scales of 1, and small biases."""
    draw = np.random.default_rng(0)

    def leaf(path: Any, shape: Any) -> np.ndarray:
        values = draw.random(shape.shape, np.float32) * 2 - 1
        fan_in = np.prod(shape.shape[:-1], dtype=np.float32) if len(shape.shape) > 1 else 400.0
        is_scale = jax.tree_util.keystr(path).rstrip("']").endswith("scale")
        return (values / np.sqrt(fan_in) + is_scale).astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _seconds(call: Callable[[], Any]) -> float:
    """Give the median of three calls, after one that compiles."""
    return timing.seconds({"": lambda _: call()}, (None,) * 3)[""]


def _memory() -> Row:
    """Tell the most that the first device has held, where it says so."""
    statistics_of = jax.devices()[0].memory_stats() or {}
    peak = statistics_of.get("peak_bytes_in_use")
    return {"GiB": peak / 2**30} if peak else {}
