"""Adam with torch's defaults, its schedule, the moving average, and gradients accumulated over parts of a batch."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW and its learning rate.

    Attributes:
        learning_rate: after the warm-up.
        betas: decay of the two moments.
        weight_decay: decoupled; torch's AdamW has 1e-2, Adam has none.
        warmup: steps of linear increase from 0.
        decay_until: step at which a cosine reaches 0, counted from the start; None keeps the rate constant.
        clip: largest global norm of the gradient; None leaves it.
    """

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int = 0
    decay_until: int | None = None
    clip: float | None = None

    def schedule(self) -> optax.Schedule:
        """Learning rate as a function of the step."""
        after = self.warmup
        rate: optax.Schedule = optax.constant_schedule(self.learning_rate)
        if self.decay_until:
            rate = optax.cosine_decay_schedule(self.learning_rate, self.decay_until - after)
        if not after:
            return rate
        return optax.join_schedules([optax.linear_schedule(0.0, self.learning_rate, after), rate], [after])

    def make(self) -> optax.GradientTransformation:
        """Build the transformation."""
        adam = optax.adamw(self.schedule(), *self.betas, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.clip), adam) if self.clip else adam


def update(config: OptimizerConfig, gradients: PyTree, opt_state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
    """Take one step; gives the new parameters and optimiser state."""
    updates, opt_state = config.make().update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def moving_average(average: PyTree, params: PyTree, decay: float, step: Array) -> PyTree:
    """Exponential moving average, shorter at the start so that the initial weights are soon forgotten."""
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: keep * old + (1 - keep) * new, average, params)


def accumulate(
    gradients: Callable[[PyTree, PRNGKeyArray], PyTree], batch: PyTree, rng: PRNGKeyArray, parts: int
) -> PyTree:
    """Average `gradients(part, rng)` (any tree) over `parts` equal parts of the batch, one at a time.

    Every `parts`-th image goes to the same part, so that a batch split over devices stays split.

    Raises:
        ValueError: the batch cannot be divided so.
    """
    if parts == 1:
        return gradients(batch, rng)
    images = len(jax.tree.leaves(batch)[0])
    if images % parts:
        raise ValueError(f"a batch of {images} images cannot be taken in {parts} equal parts")
    stacked = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    rngs = jax.random.split(rng, parts)
    first = jax.eval_shape(gradients, jax.tree.map(lambda x: x[0], stacked), rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

    def add(total: PyTree, part: tuple[PyTree, PRNGKeyArray]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, gradients(*part)), None

    total, _ = jax.lax.scan(add, zeros, (stacked, rngs))
    return jax.tree.map(lambda x: x / parts, total)
