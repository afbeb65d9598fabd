"""What every stage does alike: gradients of a batch taken in parts, an update, a moving average, lengths."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray, PyTree

from tvt_jax.data.pipeline import DataConfig
from tvt_jax.stages.compute import Compute
from tvt_jax.stages.optimizer import OptimizerConfig
from tvt_jax.train.state import Batch, Metrics, State


@dataclass(frozen=True, kw_only=True)
class Training(ABC):
    """Base of the stages: it has one optimiser for all groups of parameters, and averages one of them.

    Attributes:
        optimizer: of every group alike.
        ema_decay: of the moving average that is evaluated and exported.
        accumulation: parts that each batch is taken in, one after the other.
        compute: precision and rematerialisation of the networks; those of the losses are float32.
    """

    optimizer: OptimizerConfig
    ema_decay: float = 0.999
    accumulation: int = 1
    compute: Compute = field(default_factory=Compute)

    averaged: ClassVar[str]
    degrades: ClassVar[bool] = False  # whether it needs low-resolution crops
    prompted: ClassVar[bool] = False  # whether it can take a prompt for each image
    exact: ClassVar[tuple[str, ...]] = ("perceptual",)  # what `load` reads that stays as it is: networks of losses

    def __post_init__(self) -> None:
        if self.accumulation < 1:
            raise ValueError(f"accumulation={self.accumulation} must be at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must be in [0, 1)")

    def problems(self, data: DataConfig) -> Iterator[str]:
        """Tell what of the data does not fit the stage, each in a sentence that begins with the field's name."""
        if data.crop % self.multiple:
            near = max(round(data.crop / self.multiple), 1) * self.multiple
            yield f"crop={data.crop} must be a multiple of {self.multiple} for these networks, such as {near}"
        if self.degrades and not (data.degradation or data.lr_path):
            yield "degradation=None gives no low-resolution crops, and this stage needs them: name a degradation"
        if data.prompts and not self.prompted:
            yield f"prompts={data.prompts!r} is of no use to this stage: only the adapt stage takes a prompt an image"

    @property
    @abstractmethod
    def multiple(self) -> int:
        """Pixels that the sides of a crop must be a multiple of."""

    @property
    @abstractmethod
    def evaluated(self) -> tuple[str, ...]:
        """Names of what `evaluate` measures."""

    def hold(self, frozen: dict[str, PyTree]) -> dict[str, PyTree]:
        """Give what `load` reads as it lies in memory."""
        return {name: part if name in self.exact else self.compute.hold(part) for name, part in frozen.items()}

    def state(self, params: dict[str, PyTree]) -> State:
        """Make the state of step 0 from each group's parameters."""
        opt_state = {group: self.optimizer.make().init(tree) for group, tree in params.items()}
        ema = jax.tree.map(jnp.copy, params[self.averaged])
        return State(step=jnp.int32(0), params=params, opt_state=opt_state, ema=ema)

    def step(self, state: State, frozen: dict[str, PyTree], batch: Batch, rng: PRNGKeyArray) -> tuple[State, Metrics]:
        """Update every group on one batch."""

        def gradients(part: Batch, rng: PRNGKeyArray) -> tuple[dict[str, PyTree], Metrics]:
            return self.gradients(state, frozen, part, rng)

        with self.compute.norms():
            grads, metrics = accumulate(gradients, batch, rng, self.accumulation)
        params, opt_state, optimizer = {}, {}, self.optimizer.make()
        for group, tree in state.params.items():
            updates, opt_state[group] = optimizer.update(grads[group], state.opt_state[group], tree)
            params[group] = optax.apply_updates(tree, updates)
        ema = moving_average(state.ema, params[self.averaged], self.ema_decay, state.step)
        metrics |= lengths("gradient_norm", grads) | lengths("parameter_norm", params)
        metrics["learning_rate"] = self.optimizer.schedule()(state.step)
        return replace(state, params=params, opt_state=opt_state, ema=ema), metrics

    @abstractmethod
    def gradients(
        self, state: State, frozen: dict[str, PyTree], batch: Batch, rng: PRNGKeyArray
    ) -> tuple[dict[str, PyTree], Metrics]:
        """Give each group's gradient on a part of a batch, and the losses."""

    def evaluate(self, state: State, frozen: PyTree, batch: Batch) -> tuple[Metrics, dict[str, Array]]:
        """Score the averaged weights: each metric of each image, and pictures."""
        with self.compute.norms():
            return self.scores(state, frozen, batch)

    @abstractmethod
    def scores(self, state: State, frozen: PyTree, batch: Batch) -> tuple[Metrics, dict[str, Array]]:
        """Give what `evaluate` gives."""

    def _require_equal(self, field: str, *networks: str) -> None:
        """Raise ValueError where networks of the stage differ in a field that they must share."""
        values = {network: getattr(getattr(self, network), field) for network in networks}
        if len(set(values.values())) > 1:
            named = ", ".join(f"{network}.{field}={value}" for network, value in values.items())
            raise ValueError(f"{named} must be the same")


def lengths(name: str, groups: dict[str, PyTree]) -> Metrics:
    """Give the length of each group's tree, as `name/group`."""
    return {f"{name}/{group}": optax.tree.norm(tree) for group, tree in groups.items()}


def moving_average(average: PyTree, params: PyTree, decay: float, step: Array) -> PyTree:
    """Average exponentially, over less at the start so that the initial weights are soon forgotten."""
    keep = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, average, 1 - keep)


def accumulate(
    gradients: Callable[[PyTree, PRNGKeyArray], PyTree], batch: PyTree, rng: PRNGKeyArray, parts: int
) -> PyTree:
    """Average `gradients(part, rng)` (any tree) over `parts` equal parts of the batch, one at a time.

    Every `parts`-th image goes to the same part, so that a batch split over devices stays split.
    """
    if parts == 1:
        return gradients(batch, rng)
    stacked = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    rngs = jax.random.split(rng, parts)
    first = jax.eval_shape(gradients, jax.tree.map(lambda x: x[0], stacked), rng)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

    def add(total: PyTree, part: tuple[PyTree, PRNGKeyArray]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, gradients(*part)), None

    total, _ = jax.lax.scan(add, zeros, (stacked, rngs))
    return jax.tree.map(lambda x: x / parts, total)
