"""All five stages through the real loop: resumed to the bit, each starting from the model of the one before."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from proofs import micro
from tests.stages import small
from tests.stages.small import marked
from tvt_jax.model_folder import read_model
from tvt_jax.train import loop

ROOT = Path(__file__).resolve().parents[2]
# Of the discriminator: while all scores are between the hinges, what real images add to it, fake ones take away.
LAST_BIAS = "conv_2/conv/bias"


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def logged(workdir, name):
    """A metric of every training step."""
    entries = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [entry[name] for entry in entries if entry["kind"] == "train"]


@pytest.mark.parametrize("name", marked(micro.NEEDS))
def test_an_interrupted_run_ends_in_the_same_bits(chain, name):
    run, resumed = chain.run(name), chain.resume(name)
    assert resumed.start.step == micro.MIDDLE
    assert resumed.end.step == run.end.step == micro.STEPS
    assert_same_bits(resumed.end, run.end)
    models = [read_model(workdir / "model") for workdir in (run.workdir, resumed.workdir)]
    assert_same_bits(*([model.vae, model.unet, model.vae_source] for model in models))


@pytest.mark.parametrize("name", marked(micro.NEEDS))
def test_everything_trained_gets_a_gradient(chain, name):
    """Adam's first moment is a mean of all gradients so far."""
    for group, opt_state in chain.run(name).end.opt_state.items():
        moments = flatten_dict(optax.tree_utils.tree_get(opt_state, "mu"), sep="/")
        without = {path for path, leaf in moments.items() if not leaf.any()}
        assert without == ({LAST_BIAS} if group == "discriminator" else set())


@pytest.mark.parametrize("name", marked(["vae", "decoder", "encoder"]))
def test_the_discriminator_waits_for_its_start(chain, name):
    run = chain.run(name)
    for metric in ("generator", "discriminator", "adversarial_weight"):
        values = np.array(logged(run.workdir, metric))
        np.testing.assert_array_equal(values != 0, np.arange(micro.STEPS) >= micro.MIDDLE)
    states = (run.start, chain.resume(name).start, run.end)
    start, middle, end = (flatten_dict(state.params["discriminator"], sep="/") for state in states)
    assert_same_bits(middle, start)
    assert {path for path in end if np.array_equal(end[path], start[path])} == {LAST_BIAS}


@pytest.mark.slow
def test_frozen_parts_stay_as_they_were(chain):
    names = ("vae", "prior", "decoder", "encoder", "adapt")
    vae, prior, decoder, encoder, adapt = (read_model(chain.run(name).workdir / "model") for name in names)
    assert_same_bits(prior.vae, vae.vae)
    assert_same_bits(decoder.vae_source, vae.vae)
    for part in ("decoder", "post_quant_conv"):
        assert_same_bits(encoder.vae[part], decoder.vae[part])
    assert_same_bits(adapt.vae, encoder.vae)
    assert_same_bits(adapt.prompt_embedding, prior.prompt_embedding)
    student, source = flatten_dict(adapt.unet), flatten_dict(prior.unet)
    # Norms, biases and the time embedding of the middle carry no LoRA; its kernels do, and are fused.
    for path, leaf in source.items():
        if path[0] in ("mid_block", "time_embedding", "conv_norm_out"):
            frozen = path[-1] != "kernel" or "time_emb" in "/".join(path)
            assert (student[path] == leaf).all() == frozen, path


@pytest.mark.parametrize("name", marked(["decoder", "encoder"]))
def test_trained_parts_change_from_where_the_stage_before_left_them(chain, name):
    """A few steps of Adam move each number by at most the learning rate a step."""
    before = micro.NEEDS[name][0]
    models = [read_model(chain.run(run).workdir / "model") for run in (before, name)]
    old, new = (model.vae[name]["conv_in"]["kernel"] for model in models)
    assert (new != old).all()
    assert np.abs(new - old).max() < 1.01 * micro.STEPS * micro.OPTIMIZER.learning_rate


def train_on(chain, name, workdir, steps):
    """The same run, longer; the program is the one compiled before."""
    chain.run(name)
    assert loop.train(micro.micro_config(name, chain.root, steps=steps, save_every=steps), workdir) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "metrics"), [("decoder", ["reconstruction"]), ("adapt", ["lpips", "fake"])])
def test_the_losses_go_down(chain, tmp_path, name, metrics):
    """VSD alone has no reason to: the fake score that it is measured against learns as well."""
    train_on(chain, name, tmp_path, 40)
    for metric in metrics:
        losses = logged(tmp_path, metric)
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def start(name, chain, workdir, cache):
    environment = os.environ | cache | {"MICRO_STAGE": name, "MICRO_ROOT": str(chain.root)}
    command = [sys.executable, "train.py", "--config=proofs/micro.py", f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decoder", "adapt"])
def test_a_killed_run_goes_on_by_the_same_command(chain, cache, tmp_path, name):
    """Against a whole run by that command: compiled in another process, a program may round otherwise."""
    chain.run(name)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(name, chain, killed, cache)
    while not (killed / "checkpoints" / "1").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "model").exists()
    again = start(name, chain, killed, cache)
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0
    assert "going on from step" in output
    uninterrupted = start(name, chain, whole, cache)
    uninterrupted.communicate(timeout=600)
    config = micro.micro_config(name, chain.root)
    assert_same_bits(small.newest_state(config, killed), small.newest_state(config, whole))
