"""What a stage trains, and what the loop asks of a stage."""

from typing import Any, Protocol, runtime_checkable

from flax import struct

from tvt_jax.model_folder import ModelFolder


@struct.dataclass
class State:
    """Everything that training changes; a checkpoint holds this and nothing else of the device.

    Attributes:
        step: steps done, int32 scalar; the loop counts, a stage need not.
        params: trainable parameters, group name -> tree.
        opt_state: optimiser states, group name -> tree.
        ema: moving average of the exported parameters, or None.
    """

    step: Any
    params: dict[str, Any]
    opt_state: dict[str, Any]
    ema: Any = None


@runtime_checkable
class Stage(Protocol):
    """A stage is a frozen dataclass of hyperparameters with these methods."""

    @property
    def accumulation(self) -> int:
        """Parts that each batch is taken in."""

    def load(self) -> Any:
        """Reads earlier model folders once: a pytree of numpy arrays, constant through training ({} when none)."""

    def abstract(self) -> Any:
        """The shapes of what `load` gives, without reading model folders."""

    def hold(self, frozen: Any) -> Any:
        """What `load` or `abstract` gave in the precision that `step` and `evaluate` want it in."""

    def init(self, rng: Any, frozen: Any) -> State:
        """The state of step 0, from what `load` gave; jittable."""

    def step(self, state: State, frozen: Any, batch: dict[str, Any], rng: Any) -> tuple[State, dict[str, Any]]:
        """One update on a batch of uint8 images; jittable.

        The metrics are scalars, losses and the lengths of gradients and new parameters among them: when one is not
        finite, the step is dropped.
        """

    def evaluate(self, state: State, frozen: Any, batch: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Metrics (scalars or one value an image) and pictures (`Float[b h w 3]` in [-1, 1]); jittable."""

    def export(self, state: State, frozen: Any) -> ModelFolder:
        """The trained model as a model folder, on the host, from what `load` gave."""
