"""Training in a bucket, an emulator's: the same bits as on disk, also after kill -9; and one run at a time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from proofs import toy
from tvt_jax.files import files_below
from tvt_jax.model_folder import read_model
from tvt_jax.place import place
from tvt_jax.train import lock, loop
from tvt_jax.train.checkpoint import newest, restore
from tvt_jax.train.log import SPEED
from tvt_jax.train.mirror import Mirror
from tvt_jax.train.program import Program
from tvt_jax.train.sharding import make_mesh
from tvt_jax.train.watch import Watch

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def start(workdir, images, cache, *arguments):
    settings = {"TOY_IMAGES": str(images), "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "train.py", "--config=proofs/toy.py", f"--workdir={workdir}", "--config.save_every=7"]
    return subprocess.Popen(
        [*command, *arguments], cwd=ROOT, env=os.environ | settings, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    error = process.communicate(timeout=200)[1]
    assert process.returncode == 0, error


def wait_for_a_checkpoint(process, workdir):
    while newest(workdir / "checkpoints") is None:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)


def final_state(workdir, images):
    config = toy.toy_config(images, data_shards=1)
    program = Program(config, make_mesh(1, 1), config.stage.load())
    return jax.device_get(restore(workdir / "checkpoints", program.state)[0])


def evaluations(workdir):
    """Evaluations alone: an interval of training that was cut off is the mean of the steps after the cut."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    entries = [{key: value for key, value in line.items() if key not in SPEED} for line in lines]
    return [entry for entry in entries if entry["kind"] == "evaluate"]


def test_killed_and_resumed_in_a_bucket_it_ends_with_the_bits_of_a_disk(bucket, images, tmp_path):
    steps = ("--config.steps=30", "--config.best=mse", "--config.evaluate_every=10")
    finish(start(tmp_path / "disk", images, tmp_path, *steps))
    workdir = place(f"{bucket}/killed")
    process = start(workdir, images, tmp_path, *steps)
    wait_for_a_checkpoint(process, workdir)
    process.kill()
    process.communicate()
    finish(start(workdir, images, tmp_path, *steps, "--profile=25:27"))
    states = [final_state(folder, images) for folder in (tmp_path / "disk", workdir)]
    assert states[0].step == 30
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert evaluations(workdir) == evaluations(tmp_path / "disk")
    names = {file.relative_to(workdir).parts[0] for file in files_below(workdir)}
    folders = {"checkpoints", "images", "model", "profile", "tensorboard"}
    assert names == folders | {"began.txt", "config.json", "metrics.jsonl"}
    pictures = [sorted(file.name for file in files_below(folder / "images")) for folder in (tmp_path / "disk", workdir)]
    assert pictures[0] == pictures[1]
    finish(start(workdir, images, tmp_path, *steps, "--export=best"))
    finish(start(tmp_path / "disk", images, tmp_path, *steps, "--export=best"))
    kernels = [
        read_model(folder / "model").vae["encoder"]["quant_conv"]["kernel"] for folder in (tmp_path / "disk", workdir)
    ]
    np.testing.assert_array_equal(*kernels)


def test_compiled_programs_are_kept_in_a_bucket_and_found_by_another_machine(bucket, images, tmp_path, monkeypatch):
    settings = {"JAX_COMPILATION_CACHE_DIR": f"{bucket}/compiled", "JAX_LOG_COMPILES": "1"}
    settings |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    logs = []
    for machine in ("a", "b"):
        process = start(tmp_path / machine, images, tmp_path / f"cache_{machine}")
        logs.append(process.communicate(timeout=200)[1])
        assert process.returncode == 0, logs[-1]
    hit = "Persistent compilation cache hit for 'jit__step"
    assert [hit in log for log in logs] == [False, True]
    assert any("jit__step" in path.name for path in files_below(place(f"{bucket}/compiled")))
    assert not list(tmp_path.glob("cache_*"))


def test_a_second_run_is_refused_and_names_the_first(bucket, images, tmp_path):
    workdir = place(f"{bucket}/held")
    first = start(workdir, images, tmp_path, "--config.steps=1000000")
    try:
        wait_for_a_checkpoint(first, workdir)
        with pytest.raises(OSError, match=rf"is another run's \(host .*, process {first.pid}, since .* last heard of"):
            begin = time.monotonic()
            loop.train(toy.toy_config(images), workdir)
        assert time.monotonic() - begin < 10
    finally:
        first.kill()
        first.communicate()


def test_a_run_that_was_taken_over_saves_no_more(bucket, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.2)
    workdir = place(f"{bucket}/taken_over")
    with lock.locked(workdir) as check:
        check()
        (workdir / lock.LOCK).write_text(json.dumps({"host": "other", "process": 1, "since": "now"}))
        time.sleep(1.0)
        with pytest.raises(OSError, match=r"host other, process 1, since now, and took it over"):
            check()
    assert "other" in (workdir / lock.LOCK).read_text()  # the other run's stays


def test_a_dead_run_of_another_host_holds_the_workdir_for_its_stated_age(bucket, monkeypatch):
    workdir = place(f"{bucket}/dead")
    (workdir / lock.LOCK).write_text(json.dumps({"host": "other", "process": 1, "since": "now"}))
    with (
        pytest.raises(OSError, match=r"host other, process 1, since now, last heard of \d+ s ago"),
        lock.locked(workdir),
    ):
        pass
    monkeypatch.setattr(lock, "DEAD", 2.0)
    time.sleep(2.5)
    with lock.locked(workdir):
        pass
    assert not files_below(workdir)


def test_what_is_appended_to_is_copied_at_intervals(bucket):
    target = place(f"{bucket}/mirror")
    mirror = Mirror(target)
    (mirror.folder / "log").write_text("a\n")
    mirror.copy(every=60.0)
    assert not files_below(target)
    mirror.copy()
    with (mirror.folder / "log").open("a") as file:
        file.write("b\n")
    mirror.copy()
    assert (target / "log").read_text() == "a\nb\n"


def test_stacks_are_written_into_a_bucket(bucket):
    workdir = place(f"{bucket}/standing_still")
    with Watch(workdir, 0.1 / 60, 0):
        while not (found := files_below(workdir)):
            time.sleep(0.1)
    (path, *_) = found
    assert path.parent.name == "stacks" and "test_stacks_are_written_into_a_bucket" in path.read_text()


def test_a_bucket_that_is_not_there(bucket, images):
    with pytest.raises(OSError, match=r"the workdir gs://nowhere/run cannot be written: .*; choose another by"):
        loop.train(toy.toy_config(images), place("gs://nowhere/run"))


def test_compiled_programs_and_steps_are_kept_there(bucket, images, tmp_path):
    """The second start takes its programs from the bucket, and adds none; the third takes the saved step."""
    settings = {"JAX_COMPILATION_CACHE_DIR": f"{bucket}/cache", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    settings |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "TOY_IMAGES": str(images), "JAX_PLATFORMS": "cpu"}

    def run(*words):
        command = [sys.executable, "train.py", "--config=proofs/toy.py", *words]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kept():
        return {path.name for path in files_below(place(f"{bucket}/cache")) if path.name.endswith("-cache")}

    run(f"--workdir={tmp_path}/first")
    first = kept()
    assert any(name.startswith("jit__step") for name in first)
    run(f"--workdir={tmp_path}/second")
    assert kept() == first
    run("--plan=local", f"--save={bucket}/step")
    out = run(f"--workdir={tmp_path}/third", f"--saved-step={bucket}/step")
    assert f"read the compiled step from {bucket}/step in" in out
