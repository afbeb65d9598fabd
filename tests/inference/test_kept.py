"""Executables that are found on the disk: without tracing, with the same result, and never those of something else."""

import os
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tvt_jax.inference import kept
from tvt_jax.inference.kept import Kept

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def folder(tmp_path):
    """Gives where programs are kept; a test before may have switched that off, as plans for absent devices do."""
    wanted = {"jax_compilation_cache_dir": str(tmp_path), "jax_enable_compilation_cache": True}
    before = {name: jax.config.values[name] for name in wanted}
    for name, value in wanted.items():
        jax.config.update(name, value)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def scaled(traces):
    """The same function as a new process would have it, and a note of each time it is traced."""

    def scale(by, tree, unused):
        traces.append(by)
        return jnp.tanh(by * tree["x"] @ tree["x"].T)

    return Kept(jax.jit(scale, static_argnums=0), static=1)


def files(folder):
    return sorted(folder.glob("tvt-*.executable"))


def test_a_kept_program_is_not_traced_again(folder):
    traces = []
    first, second = scaled(traces), scaled(traces)
    expected = np.asarray(first(2, {"x": X}, True))
    np.testing.assert_allclose(expected, np.tanh(2 * X @ X.T), rtol=1e-6)
    assert traces == [2]
    for x in (X, jnp.asarray(X)):
        np.testing.assert_array_equal(second(2, {"x": x}, True), expected)
    np.testing.assert_allclose(second(2, {"x": -2 * X}, True), np.tanh(8 * X @ X.T), rtol=1e-6)
    assert traces == [2]
    assert len(files(folder)) == 1


def test_another_program_is_another_file(folder, monkeypatch):
    traces = []
    scaled(traces)(2, {"x": X}, True)
    scaled(traces)(3, {"x": X}, True)
    scaled(traces)(2, {"x": X[:1]}, True)
    scaled(traces)(2, {"x": X.astype(np.int32)}, True)
    monkeypatch.setattr(kept, "processor", lambda: "another processor")
    scaled(traces)(2, {"x": X}, True)
    monkeypatch.setattr(kept, "code_fingerprint", lambda parts: "other code")
    scaled(traces)(2, {"x": X}, True)
    assert len(files(folder)) == len(traces) == 6


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data[:-1] + b"\0", lambda data: b""])
def test_a_spoilt_file_is_made_again(folder, spoil):
    traces = []
    expected = np.asarray(scaled(traces)(2, {"x": X}, True))
    (file,) = files(folder)
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    np.testing.assert_array_equal(scaled(traces)(2, {"x": X}, True), expected)
    np.testing.assert_array_equal(scaled(traces)(2, {"x": X}, True), expected)
    assert traces == [2, 2]


def test_where_nothing_can_be_kept_it_runs_all_the_same(tmp_path, folder, capsys):
    (tmp_path / "file").write_text("")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "file" / "cache"))
    np.testing.assert_allclose(scaled([])(2, {"x": X}, True), np.tanh(2 * X @ X.T), rtol=1e-6)
    assert "can't be written" in capsys.readouterr().err


def test_another_precision_is_another_program(folder):
    traces = []
    program = scaled(traces)
    program(2, {"x": X}, True)
    with jax.default_matmul_precision("highest"):
        program(2, {"x": X}, True)
    program(2, {"x": X}, True)
    assert len(files(folder)) == len(traces) == 2


def test_what_jax_keeps_in_a_bucket_is_left_to_jax(folder, monkeypatch):
    """A local folder called gs: would be made."""
    jax.config.update("jax_compilation_cache_dir", "gs://bucket/programs")
    monkeypatch.setattr(kept, "_compile", None)
    monkeypatch.setattr(kept, "_read", None)
    program = scaled([])
    monkeypatch.setattr(program, "_jitted", lambda *_: "jax's own")
    assert program(2, {"x": X}, True) == "jax's own"


def test_where_jax_keeps_nothing_nothing_is_kept(folder):
    jax.config.update("jax_enable_compilation_cache", False)
    scaled([])(2, {"x": X}, True)
    assert not files(folder)


def test_what_has_not_been_used_for_a_month_makes_room(folder):
    def unused(file, days):
        then = time.time() - days * 24 * 3600
        os.utime(file, (then, then))

    traces = []
    scaled(traces)(2, {"x": X}, True)
    (used,) = files(folder)
    scaled(traces)(3, {"x": X}, True)
    (old,) = set(files(folder)) - {used}
    (folder / "of-jax").write_text("")
    for file, days in ((used, 31), (old, 31), (folder / "of-jax", 31)):
        unused(file, days)
    scaled(traces)(2, {"x": X}, True)
    assert traces == [2, 3]
    scaled(traces)(4, {"x": X}, True)
    assert used in files(folder) and old not in files(folder) and len(files(folder)) == 2
    assert (folder / "of-jax").exists()
    unused(used, 29)
    scaled(traces)(5, {"x": X}, True)
    assert used in files(folder)
