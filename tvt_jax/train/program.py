"""A stage's functions, compiled for a mesh: where every argument lives is fixed here."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tvt_jax.place import Place
from tvt_jax.train import saved_step
from tvt_jax.train.config import TrainConfig
from tvt_jax.train.flops import count_flops
from tvt_jax.train.sharding import batch_sharding, replicated, tree_shardings
from tvt_jax.train.state import State

# Without these, and with few images a device, the TPU compiler cuts images into strips, and loses more by moving them
# than it gains: it expects 227 ms instead of 63 for decoding four images of 512x512 on a v5e.
_TPU_OPTIONS = {"xla_tpu_run_space_to_batch": "false", "xla_tpu_run_space_to_batch_on_new_platforms": "false"}

# Folded into the seed for the initial parameters: a step that no training reaches.
_INIT = 2**32 - 1


class Step(NamedTuple):
    """A step that is ready to run.

    Attributes:
        run: `run(state, frozen, batch) -> state, metrics`.
        flops: of its products on one device.
        loaded: whether it comes out of a file.
    """

    run: Callable[..., Any]
    flops: float
    loaded: bool


class Program:
    """`init`, `step` and `evaluate` of a stage on a mesh.

    Attributes:
        mesh: the devices.
        frozen: the constant parameters (arrays, or shapes with shardings when only compiling).
        state: shapes and shardings of the state.
    """

    def __init__(self, config: TrainConfig, mesh: Mesh, frozen: Any) -> None:
        """Compile nothing yet; `frozen` is what `stage.load()` returned, or `stage.abstract()` to compile only."""
        self._stage, self.mesh = config.stage, mesh
        # An argument of the programs, so that another seed needs no compiling.
        self._seed = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
        self._shard = partial(tree_shardings, mesh, min_mib=config.fsdp_min_mib)
        self._batch = batch_sharding(mesh, config.data.batch)
        held = self._stage.hold(frozen)
        self.frozen = jax.tree.map(_place, held, self._shard(held))
        shapes = jax.eval_shape(self._init, self._seed, frozen)
        self.state = jax.tree.map(_place, shapes, self._shard(shapes))
        self._options = _TPU_OPTIONS if mesh.devices.flat[0].platform == "tpu" else None
        self._evaluate = jax.jit(self._stage.evaluate, out_shardings=replicated(mesh), compiler_options=self._options)

    def init(self, loaded: Any) -> State:
        """Make the state of step 0 in place: no device holds more than its part.

        Args:
            loaded: what `stage.load()` returned, from which it inherits in full precision.
        """
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.state)
        with jax.set_mesh(self.mesh):
            inherited = jax.tree.map(_place, loaded, self._shard(loaded))
            return jax.jit(self._init, out_shardings=shardings)(self._seed, inherited)

    def put(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Put this process's part of a batch on the devices."""
        put = partial(jax.make_array_from_process_local_data, self._batch)
        return jax.tree.map(put, batch)

    def abstract_batch(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, jax.ShapeDtypeStruct]:
        """Describe what `put` makes of a batch of these shapes, without the batch."""
        return {name: jax.ShapeDtypeStruct(n, np.uint8, sharding=self._batch) for name, n in shapes.items()}

    def compile_step(self, batch: dict[str, Any], saved: Place | None = None) -> Step:
        """Compile `step(state, frozen, batch) -> state, metrics` for batches like this one; the state is donated.

        What lies in the file `saved` is taken in its place, if it is the same.
        """
        traced = self.trace_step(batch)
        flops = sum(count_flops(traced.jaxpr.jaxpr)) / self.mesh.size
        lowered = traced.lower()
        loaded = saved_step.load(saved, lowered, self.mesh) if saved else None
        return Step(partial(loaded or lowered.compile(), self._seed), flops, loaded is not None)

    def trace_step(self, batch: dict[str, Any]) -> Any:
        """Trace the step, before lowering; `.jaxpr` is its program on all devices together."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, (self.state, self.frozen, batch))
        inputs, outputs = (replicated(self.mesh), *shardings), (shardings[0], replicated(self.mesh))
        step = jax.jit(
            self._step,
            in_shardings=inputs,
            out_shardings=outputs,
            donate_argnums=1,
            compiler_options=self._options,
        )
        with jax.set_mesh(self.mesh):
            return step.trace(self._seed, self.state, self.frozen, batch)

    def evaluate(self, state: State, batches: list[dict[str, np.ndarray]]) -> tuple[dict[str, float], dict[str, Any]]:
        """Average the metrics over all images of the batches; return the means, and the pictures of the first batch."""
        sums: dict[str, list[np.ndarray]] = {}
        pictures: dict[str, Any] = {}
        for batch in batches:
            with jax.set_mesh(self.mesh):
                metrics, images = jax.device_get(self._evaluate(state, self.frozen, self.put(batch)))
            pictures = pictures or images
            for name, value in metrics.items():
                sums.setdefault(name, []).append(np.mean(value))
        return {name: float(np.mean(values)) for name, values in sums.items()}, pictures

    def _init(self, seed: Any, frozen: Any) -> State:
        return self._stage.init(_key(seed, _INIT), frozen)

    def _step(self, seed: Any, state: State, frozen: Any, batch: dict[str, Any]) -> tuple[State, dict[str, Any]]:
        """Take a step of the stage; with a metric that is not finite, change nothing but the count, and set `skipped`.

        The arrays themselves are not looked at: XLA takes minutes to compile one result of thousands.
        """
        new, metrics = self._stage.step(state, frozen, batch, _key(seed, state.step))
        finite = _all_finite(metrics)
        new = jax.tree.map(partial(jnp.where, finite), new, state)
        return dataclasses.replace(new, step=state.step + 1), {**metrics, "skipped": 1.0 - finite}


def _key(seed: Any, step: Any) -> jax.Array:
    return jax.random.fold_in(jax.random.wrap_key_data(seed), step)


def _all_finite(metrics: dict[str, jax.Array]) -> jax.Array:
    return jnp.isfinite(jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics.values()])).all()


def _place(leaf: Any, sharding: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
    return jax.device_put(leaf, sharding)
