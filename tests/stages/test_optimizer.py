import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.train.checkpoint import Checkpoints, restore
from tvt_jax.train.state import State


def update(config, gradients, opt_state, params):
    updates, opt_state = config.make().update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


@pytest.fixture
def params():
    generator = np.random.default_rng(0)
    return {"a": generator.normal(size=(3, 4)).astype(np.float32), "b": generator.normal(size=5).astype(np.float32)}


def gradients(step):
    """Of norms from about 0.4 to 12, so that some are clipped at 1 and some are not."""
    generator = np.random.default_rng(step + 1)
    return {name: 0.1 * 2 ** (step % 6) * generator.normal(size=n) for name, n in (("a", (3, 4)), ("b", 5))}


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9)])
def test_steps_are_torchs_adamw(params, clip, weight_decay, betas):
    config = OptimizerConfig(learning_rate=1e-2, betas=betas, weight_decay=weight_decay, clip=clip)
    theirs = {name: torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for name, leaf in params.items()}
    adam = torch.optim.AdamW(theirs.values(), lr=1e-2, betas=betas, weight_decay=weight_decay)
    ours, opt_state = params, config.make().init(params)
    step = jax.jit(lambda *arguments: update(config, *arguments))
    for i in range(12):
        for name, gradient in gradients(i).items():
            theirs[name].grad = torch.tensor(gradient)
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
        adam.step()
        ours, opt_state = step(jax.tree.map(jnp.float32, gradients(i)), opt_state, ours)
    for name, leaf in theirs.items():
        # Float32 against float64 over 12 steps of 1e-2; torch also divides by norm + 1e-6 when it clips.
        np.testing.assert_allclose(ours[name], leaf.detach(), rtol=0, atol=2e-6)


def orthogonal(matrix):
    """Keller Jordan's five Newton-Schulz iterations: about the nearest matrix of singular values 1."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / np.linalg.norm(wide)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x if wide is matrix else x.T


@pytest.mark.parametrize("shape", [(5, 7), (3, 3, 4, 6), (1, 1, 2, 8)])
def test_kernels_take_orthogonal_steps_on_demand(shape):
    """The first step, before momentum; a convolution's kernel is a matrix with a column for each output."""
    generator = np.random.default_rng(0)
    gradient, ones = generator.normal(size=shape), np.ones(shape[-1])
    params = {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[-1])}
    config = OptimizerConfig(learning_rate=1e-3, kernel_learning_rate=0.02)
    grads = jax.tree.map(jnp.float32, {"kernel": gradient, "bias": ones})
    new, _ = update(config, grads, config.make().init(params), params)
    matrix = gradient.reshape(-1, shape[-1])
    rate = 0.02 * np.sqrt(max(1, matrix.shape[1] / matrix.shape[0]))
    np.testing.assert_allclose(new["kernel"], -rate * orthogonal(matrix).reshape(shape), atol=1e-7)
    rest = optax.nadamw(1e-3, weight_decay=0)
    expected, _ = rest.update(grads["bias"], rest.init(params["bias"]), params["bias"])
    np.testing.assert_allclose(new["bias"], expected, rtol=1e-6)


def test_kernels_of_equal_shape_take_their_own_steps():
    """Among others, and whatever their axes: the same as each alone."""
    generator = np.random.default_rng(0)
    shapes = {"a": (3, 4), "b": (4,), "c": (1, 1, 3, 4), "d": (4, 3), "e": {"f": (3, 4), "g": (2,)}}
    params, grads = (
        jax.tree.map(lambda n: jnp.float32(generator.normal(size=n)), shapes, is_leaf=lambda x: isinstance(x, tuple))
        for _ in range(2)
    )
    config = OptimizerConfig(learning_rate=1e-3, kernel_learning_rate=0.02)
    new, _ = update(config, grads, config.make().init(params), params)

    def alone(gradient, leaf):
        return update(config, gradient, config.make().init(leaf), leaf)[0]

    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7), new, jax.tree.map(alone, grads, params))


def test_both_kinds_of_step_are_resumed(params, tmp_path):
    config = OptimizerConfig(learning_rate=1e-3, kernel_learning_rate=0.02, warmup=3)
    params = jax.tree.map(jnp.asarray, params)
    opt_state = config.make().init(params)
    for i in range(3):
        params, opt_state = update(config, jax.tree.map(jnp.float32, gradients(i)), opt_state, params)
    state = State(step=jnp.int32(3), params={"vae": params}, opt_state={"vae": opt_state}, ema=None)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(state, {})
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    restored, _ = restore(tmp_path, shapes)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert jax.tree.structure(restored) == jax.tree.structure(state)


def test_schedules():
    constant = OptimizerConfig(learning_rate=2.0).schedule()
    assert [constant(step) for step in (0, 10_000)] == [2.0, 2.0]
    # As torch's and diffusers' constant_with_warmup: the first step has a rate of 0.
    warm = OptimizerConfig(learning_rate=2.0, warmup=500).schedule()
    np.testing.assert_allclose([warm(step) for step in (0, 1, 250, 500, 9999)], [0, 0.004, 1, 2, 2], atol=1e-6)
    cosine = OptimizerConfig(learning_rate=2.0, warmup=100, decay_until=300).schedule()
    steps = np.array([0, 50, 100, 150, 200, 300, 400])
    decayed = 1 + np.cos(np.pi * np.clip((steps - 100) / 200, 0, 1))
    expected = np.where(steps < 100, steps / 50, decayed)
    np.testing.assert_allclose([cosine(step) for step in steps], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", 0.0, "learning_rate=0.0 must be positive"),
        ("kernel_learning_rate", -1.0, "kernel_learning_rate=-1.0 must be positive"),
        ("clip", 0.0, "clip=0.0 must be positive"),
        ("decay_until", 5, "decay_until=5 must come after the warm-up of 5 steps"),
    ],
)
def test_rates_that_make_no_sense(field, value, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**{"learning_rate": 1.0, "warmup": 5, field: value})
