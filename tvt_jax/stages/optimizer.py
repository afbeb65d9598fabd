"""AdamW or Muon, and their schedule."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree
from optax.contrib import MuonDimensionNumbers, muon


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with torch's defaults, and on demand Muon for the kernels.

    Attributes:
        learning_rate: after the warm-up.
        kernel_learning_rate: of Muon (kellerjordan.github.io/posts/muon) for everything with two axes or more; its
            updates have the spectral norm 1, and the rest takes NAdamW's. None leaves all to AdamW.
        betas: decay of the two moments.
        weight_decay: decoupled; torch's AdamW has 1e-2, Adam has none.
        warmup: steps of linear increase from 0.
        decay_until: step at which a cosine reaches 0, counted from the start; None keeps the rate constant.
        clip: largest global norm of the gradient; None leaves it.
    """

    learning_rate: float
    kernel_learning_rate: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    warmup: int = 0
    decay_until: int | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "kernel_learning_rate", "clip"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive")
        if self.decay_until is not None and self.decay_until <= self.warmup:
            raise ValueError(f"decay_until={self.decay_until} must come after the warm-up of {self.warmup} steps")

    def schedule(self, peak: float | None = None) -> optax.Schedule:
        """Return the learning rate as a function of the step; `peak` in place of `learning_rate`."""
        peak, after = peak or self.learning_rate, self.warmup
        rate: optax.Schedule = optax.constant_schedule(peak)
        if self.decay_until:
            rate = optax.cosine_decay_schedule(peak, self.decay_until - after)
        if not after:
            return rate
        return optax.join_schedules([optax.linear_schedule(0.0, peak, after), rate], [after])

    def make(self) -> optax.GradientTransformation:
        """Build the transformation."""
        if self.kernel_learning_rate:
            optimizer = muon(
                self.schedule(self.kernel_learning_rate),
                weight_decay=self.weight_decay,
                adam_b1=self.betas[0],
                adam_b2=self.betas[1],
                adam_weight_decay=self.weight_decay,
                adam_learning_rate=self.schedule(),
                muon_weight_dimension_numbers=_matrices,
            )
            optimizer = _on_stacks(optimizer)
        else:
            optimizer = optax.adamw(self.schedule(), *self.betas, weight_decay=self.weight_decay)
        return optax.chain(optax.clip_by_global_norm(self.clip), optimizer) if self.clip else optimizer


def _on_stacks(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Hand kernels of equal shape to `inner` as one array: XLA takes minutes to compile hundreds of small ones."""

    def update(gradients: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        updates, state = inner.update(_stack(gradients), state, _stack(params))
        return _unstack(updates, params), state

    return optax.GradientTransformation(lambda params: inner.init(_stack(params)), update)


def _groups(leaves: list[Array]) -> dict[str, list[int]]:
    """Group indices of leaves of two axes or more by their shape as a matrix: all axes but the last are its rows."""
    groups: dict[str, list[int]] = {}
    for index, leaf in enumerate(leaves):
        if leaf.ndim > 1:
            groups.setdefault(f"{leaf.size // leaf.shape[-1]}x{leaf.shape[-1]}", []).append(index)
    return groups


def _stack(tree: PyTree) -> PyTree:
    leaves = jax.tree.leaves(tree)
    kernels = {
        shape: jnp.stack([leaves[i].reshape(-1, leaves[i].shape[-1]) for i in indices])
        for shape, indices in _groups(leaves).items()
    }
    return {"kernels": kernels, "rest": [leaf for leaf in leaves if leaf.ndim < 2]}


def _unstack(stacked: PyTree, like: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(like)
    rest = iter(stacked["rest"])
    found = [None if leaf.ndim > 1 else next(rest) for leaf in leaves]
    for shape, indices in _groups(leaves).items():
        for index, matrix in zip(indices, stacked["kernels"][shape], strict=True):
            found[index] = matrix.reshape(leaves[index].shape)
    return jax.tree.unflatten(structure, found)


def _matrices(stacked: PyTree) -> PyTree:
    """Give Muon's axes of `_stack`'s result: each matrix of a stack by itself, and none of the rest."""
    return {
        "kernels": dict.fromkeys(stacked["kernels"], MuonDimensionNumbers(1, 2)),
        "rest": [None] * len(stacked["rest"]),
    }
