"""Compare our networks with torch's, given the same weights and the same inputs.

The reference computes in float64: it is as good as exact, and only our own float32 rounding shows.
"""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import torch
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import PyTree

from tvt_jax.models.keys import from_torch, tree_from_torch

# Differentiating amplifies rounding: gradients are held to this share of their tensor's largest one.
GRADIENT_TOLERANCE = 1e-3
# Each network is compiled once and run once: a third of the time to compile, the same arithmetic.
_QUICK = {"xla_backend_optimization_level": "0"}
if jax.__version_info__ < (0, 11):  # later compilers know no such option
    _QUICK["xla_cpu_use_fusion_emitters"] = "False"
quick_jit = partial(jax.jit, compiler_options=_QUICK)


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draw every parameter anew, those included that torch starts at zero or one; then compute in float64."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.data = 0.2 * noise + name.endswith("weight")
        else:
            parameter.data = noise * parameter[0].numel() ** -0.5
    return module.requires_grad_(True).double().eval()


def arrays(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    """Draw float32 arrays of these shapes from the unit normal distribution."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape, np.float32) for shape in shapes]


def random_params(model: nn.Module, *inputs: jax.Array) -> PyTree:
    """Draw every parameter of one of our networks, the deviation a usual one for its fan-in."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]
    generator = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 25
        return generator.standard_normal(leaf.shape, np.float32) * np.float32(fan_in) ** -0.5 + (leaf.ndim == 1)

    return jax.tree.map(draw, shapes)


def without_middle(vae: torch.nn.Module) -> torch.nn.Module:
    """Make the middle blocks of diffusers' AutoencoderKL, which VAE-D4 has not, the identity."""
    for part in (vae.encoder, vae.decoder):
        for resnet in part.mid_block.resnets:
            resnet.conv2.weight.data.zero_()
            resnet.conv2.bias.data.zero_()
    return vae


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Make an input: NHWC becomes NCHW, floats become float64 and take gradients."""
    tensor = torch.tensor(array)
    if tensor.is_floating_point():
        tensor = tensor.double()
    tensor = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
    return tensor.clone().requires_grad_(tensor.is_floating_point())


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Undo `to_torch`."""
    tensor = tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor
    return tensor.detach().numpy()


def state_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """All parameters by name, in float32."""
    return {name: parameter.detach().float().numpy() for name, parameter in module.named_parameters()}


def gradients_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """All gradients by name; zeros where there is none."""
    return {
        name: (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).numpy()
        for name, parameter in module.named_parameters()
    }


def peft_trees(tensors: dict[str, np.ndarray]) -> dict[str, PyTree]:
    """Split PEFT's names into our two trees: `X.base_layer.weight`, `X.lora_A.default.weight`, `X.lora_B...`."""
    params, lora = {}, {}
    for name, tensor in tensors.items():
        module, *rest = name.split(".lora_")
        if rest:
            path, array = from_torch(f"{module}.weight", tensor)
            lora[(*path[:-1], f"lora_{rest[0][0]}")] = array
        else:
            params[name.replace(".base_layer", "")] = tensor
    return {"params": tree_from_torch(params), "lora": unflatten_dict(lora)}


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Compare by the largest difference, in units of the largest expected value or of one."""
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / max(1.0, np.abs(expected).max())
    assert error <= tolerance, f"off by {error:.1e}, more than {tolerance:.1e}"


def assert_agrees(
    ours: Callable[..., jax.Array],
    module: torch.nn.Module,
    *inputs: np.ndarray,
    tolerance: float,
    call: Callable[..., torch.Tensor] | None = None,
    tree: Callable[[dict[str, np.ndarray]], PyTree] = tree_from_torch,
) -> None:
    """Compare results, then gradients with respect to all parameters and inputs.

    Args:
        ours: takes (params, *inputs).
        module: the reference; called with the inputs as tensors unless `call` says how.
        tree: turns the reference's parameters by name, and their gradients, into `params`.
    """
    tensors = [to_torch(array) for array in inputs]
    output = (call or module)(*tensors)
    (direction,) = arrays(to_numpy(output).shape, seed=1)
    output.backward(to_torch(direction))
    params = tree(state_of(module))
    value, (by_params, *by_inputs) = _value_and_pullback(ours, direction, params, *inputs)
    assert_close(value, to_numpy(output), tolerance)
    expected = flatten_dict(tree(gradients_of(module)), sep="/")
    actual = flatten_dict(by_params, sep="/")
    for i, tensor in enumerate(tensors):
        if tensor.grad is not None:
            expected[f"input {i}"], actual[f"input {i}"] = to_numpy(tensor.grad), by_inputs[i]
    _assert_gradients_close(actual, expected)


def _value_and_pullback(ours: Callable, direction: np.ndarray, params: PyTree, *inputs: np.ndarray) -> tuple:
    @quick_jit
    def run(params: PyTree, *inputs: jax.Array) -> tuple:
        value, pullback = jax.vjp(ours, params, *inputs)
        return value, pullback(direction)

    return jax.device_get(run(params, *inputs))


def _assert_gradients_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert actual.keys() == expected.keys()
    # Below this share of the largest gradient of all there is nothing but rounding (a bias before a norm has none).
    floor = 1e-6 * max(np.abs(gradient).max() for gradient in expected.values())
    wrong = {}
    for name, gradient in expected.items():
        error = np.abs(actual[name] - gradient).max()
        if error > GRADIENT_TOLERANCE * np.abs(gradient).max() + floor:
            wrong[name] = f"{error:.1e} of {np.abs(gradient).max():.1e}"
    assert not wrong
