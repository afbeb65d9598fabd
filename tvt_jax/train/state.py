"""What a stage trains, and what the loop asks of a stage."""

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

from flax import struct
from jaxtyping import Array, Float, Float16, PRNGKeyArray, PyTree, UInt8

from tvt_jax.data.pipeline import DataConfig
from tvt_jax.model_folder import ModelFolder

Batch = dict[str, UInt8[Array, "b _ _ 3"] | Float16[Array, "b n d"]]  # images, and encoded prompts
Metrics = dict[str, Float[Array, "*b"]]
Leaf = Any  # an array; jax and Orbax make the same tree of shapes, shardings and nothing


@struct.dataclass
class State:
    """Everything that training changes; a checkpoint holds this and nothing else of the device.

    Attributes:
        step: steps done, int32 scalar; the loop counts, a stage need not.
        params: trainable parameters, group name -> tree.
        opt_state: optimiser states, group name -> tree.
        ema: moving average of the exported parameters, or None.
    """

    step: Leaf
    params: dict[str, PyTree]
    opt_state: dict[str, PyTree]
    ema: PyTree = None


@runtime_checkable
class Stage(Protocol):
    """A stage is a frozen dataclass of hyperparameters with these methods."""

    @property
    def accumulation(self) -> int:
        """Parts that each batch is taken in."""

    @property
    def evaluated(self) -> tuple[str, ...]:
        """Names of the metrics that `evaluate` gives."""

    def problems(self, data: DataConfig) -> Iterable[str]:
        """Tell what of the data does not fit the stage, each in a sentence that begins with the field's name."""

    def load(self) -> PyTree:
        """Read earlier model folders once: a tree of numpy arrays, constant through training ({} when none)."""

    def abstract(self) -> PyTree:
        """Give the shapes of what `load` gives, without reading model folders."""

    def hold(self, frozen: PyTree) -> PyTree:
        """Give what `load` or `abstract` gave in the precision that `step` and `evaluate` want it in."""

    def init(self, rng: PRNGKeyArray, frozen: PyTree) -> State:
        """Make the state of step 0, from what `load` gave; jittable."""

    def step(self, state: State, frozen: PyTree, batch: Batch, rng: PRNGKeyArray) -> tuple[State, Metrics]:
        """Update on a batch of uint8 images; jittable.

        The metrics are scalars, losses and the lengths of gradients and new parameters among them: when one is not
        finite, the step is dropped.
        """

    def evaluate(self, state: State, frozen: PyTree, batch: Batch) -> tuple[Metrics, dict[str, Array]]:
        """Give metrics (scalars or one value an image) and pictures (`Float[b h w 3]` in [-1, 1]); jittable."""

    def export(self, state: State, frozen: PyTree) -> ModelFolder:
        """Make the trained model a model folder, on the host, from what `load` gave."""
