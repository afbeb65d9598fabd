import shutil
from functools import cache as cache_results
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from proofs import micro
from tvt_jax.train import loop


@pytest.fixture(scope="package")
def cache(tmp_path_factory):
    """A run and its resumption compile the same programs: kept here, they are compiled once."""
    changes = micro.QUICK | {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: jax.config.values[name] for name in changes}
    _configure(changes)
    yield {name.upper(): str(value) for name, value in changes.items()}
    _configure(before)


def _configure(values):
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


class Chain:
    """Runs of the stages, each from the models of those before it; made when first asked for, and only once.

    Attributes:
        root: folder of the images, and of the runs.
    """

    def __init__(self, root):
        self.root = root
        self.run, self.resume = cache_results(self._run), cache_results(self._resume)

    def _run(self, name):
        """Without interruption: workdir, states at the start and at the end."""
        for before in micro.NEEDS[name]:
            self.run(before)
        return self._train(name, self.root / "runs" / name)

    def _resume(self, name):
        """The same, gone on with from what a kill after the first save leaves."""
        saved, workdir = Path("checkpoints", str(micro.MIDDLE)), self.root / "resumed" / name
        shutil.copytree(self.run(name).workdir / saved, workdir / saved)
        return self._train(name, workdir)

    def _train(self, name, workdir):
        """States are taken on their way in and out of the loop, which is faster than from a checkpoint."""
        states = []

        def recorded(*arguments):
            states.append(jax.device_get(arguments[4]))
            state, stopped_by = inner(*arguments)
            states.append(jax.device_get(state))
            return state, stopped_by

        with pytest.MonkeyPatch.context() as patch:
            inner = loop._loop
            patch.setattr(loop, "_loop", recorded)
            assert loop.train(micro.micro_config(name, self.root), workdir) == 0
        return SimpleNamespace(workdir=workdir, start=states[0], end=states[1])


@pytest.fixture(scope="package")
def chain(cache, tmp_path_factory):
    root = tmp_path_factory.mktemp("chain")
    micro.write_images(root / "images")
    return Chain(root)
