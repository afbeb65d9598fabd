"""docs/launch.md and launch/: every command runs, with stand-ins for the programs of clouds and clusters."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import tyro
import yaml

from convert.__main__ import import_model
from proofs import toy
from proofs.devices import free_port
from tests.stand_ins import StandIns
from tvt_jax.data.prepare import PrepareConfig
from tvt_jax.model_folder import read_model
from tvt_jax.train.checkpoint import newest
from tvt_jax.train.command import _parser
from tvt_jax.train.config import load_config

ROOT = Path(__file__).resolve().parent.parent
LAUNCH = ROOT / "launch"
PAGE = (ROOT / "docs" / "launch.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
TPU = ("tvt", "us-west4-a", "v5litepod-16", "v2-alpha-tpuv5-lite")
TRAIN = ("--config=configs/sd21/rooted.py:gs://BUCKET/adapt", "--workdir=gs://BUCKET/it's here")


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    return StandIns(tmp_path, monkeypatch)


def run(*command, cwd=ROOT, **options):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, **options)


def assert_train_takes(arguments):
    """Parses a command line of train.py as it does itself, up to the point where it would read data or devices."""
    parsed, overrides = _parser().parse_known_args(arguments)
    assert load_config(ROOT / parsed.config, overrides).steps
    return parsed


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash_and_may_be_run(script):
    assert run("bash", "-n", script).returncode == 0
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_page_runs(command, stand_ins, tmp_path):
    """And hands train.py, the importer and the preparation what they take."""
    shutil.copytree(LAUNCH, tmp_path / "launch")
    result = run("bash", "-euo", "pipefail", "-c", command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    calls = stand_ins.calls()
    assert calls
    for name, *arguments in calls:
        if configs := [word for word in arguments if word.startswith("--config=")]:
            assert_train_takes(arguments[arguments.index(configs[0]) :])
        elif name != "python":
            continue
        elif "convert" in arguments:
            options = {word[2:] for word in arguments if word.startswith("--")}
            assert arguments[2] == "import" and options <= set(inspect.signature(import_model).parameters)
        elif "tvt_jax.data.prepare" in arguments:
            tyro.cli(PrepareConfig, args=arguments[2:])
        else:
            assert arguments[:2] in (["-m", "venv"], ["-m", "pip"])


def test_the_page_has_a_command_for_every_file():
    for path in LAUNCH.iterdir():
        if path.name not in ("host.sh", "Dockerfile.dockerignore"):  # which the others use
            assert any(f"launch/{path.name}" in command for command in COMMANDS), path.name


@pytest.mark.parametrize(("kind", "name"), [("yaml", "jobset.yaml"), ("bash", "slurm.sh")])
def test_what_the_page_shows_of_a_file_stands_there(kind, name):
    (shown,) = (block for found, block in BLOCKS if found == kind)
    assert shown in (LAUNCH / name).read_text()


def test_the_jobset_trains_on_all_chips_of_its_slice():
    document = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    (job,) = document["spec"]["replicatedJobs"]
    job, pod = job["template"]["spec"], job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    rows, columns = map(int, topology.split("x"))
    assert job["parallelism"] == job["completions"]
    assert job["parallelism"] * container["resources"]["limits"]["google.com/tpu"] == rows * columns
    arguments = assert_train_takes(container["args"])
    assert arguments.coordinator == "auto" and str(arguments.workdir).startswith("gs:/")
    assert load_config(ROOT / arguments.config).data.batch % (rows * columns) == 0
    assert f"--tpu-topology={topology} --num-nodes={job['parallelism']}" in PAGE
    assert f"within the {pod['terminationGracePeriodSeconds']} seconds" in " ".join(PAGE.split())


def test_a_preempted_slice_is_made_again_and_the_same_command_goes_on(stand_ins):
    stand_ins.outcomes("preempted", "0")
    result = run("bash", LAUNCH / "tpu_vm.sh", *TPU, *TRAIN)
    assert result.returncode == 0, result.stderr
    assert "the slice tvt is PREEMPTED: making it again" in result.stdout
    attempt = ["create", "scp", "ssh", "ssh"]
    assert stand_ins.verbs() == [*attempt, "delete", *attempt, "delete"]
    trained = [call[1:] for call in stand_ins.calls() if call[0] == "python" and "train.py" in call]
    assert trained == [["train.py", "--coordinator=auto", *TRAIN]] * 2
    created = next(call for call in stand_ins.calls() if call[4:5] == ["create"])
    assert "--spot" in created and "--accelerator-type=v5litepod-16" in created and "--zone=us-west4-a" in created


def test_an_error_leaves_the_slice_and_says_how_to_delete_it(stand_ins):
    stand_ins.outcomes("1")
    result = run("bash", LAUNCH / "tpu_vm.sh", *TPU, *TRAIN)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "gcloud compute tpus tpu-vm delete tvt --zone=us-west4-a"
    assert "delete" not in stand_ins.verbs()


def test_a_slice_is_asked_for_until_there_is_one_and_one_that_is_there_is_taken(stand_ins, monkeypatch):
    monkeypatch.setenv("ON_DEMAND", "1")
    stand_ins.refuse_slices(2)
    stand_ins.outcomes("1", "0")
    for expected in (1, 0):
        assert run("bash", LAUNCH / "tpu_vm.sh", *TPU, *TRAIN).returncode == expected
    assert stand_ins.verbs() == ["create", "create", "create", "scp", "ssh", "ssh", "scp", "ssh", "ssh", "delete"]
    assert not any("--spot" in call for call in stand_ins.calls())


def test_a_failed_copy_is_not_trained_on(stand_ins):
    stand_ins.fail("scp")
    assert run("bash", LAUNCH / "tpu_vm.sh", *TPU, *TRAIN).returncode == 1
    assert not [call for call in stand_ins.calls() if call[0] == "python"]


def test_the_compiled_step_is_kept_where_one_says(stand_ins, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://BUCKET/compiled")
    run("bash", LAUNCH / "tpu_vm.sh", *TPU, *TRAIN)
    (trained,) = (call for call in stand_ins.calls() if call[0] == "gcloud" and "train.py" in call[-3])
    assert " JAX_COMPILATION_CACHE_DIR=gs://BUCKET/compiled .venv/bin/python train.py" in " ".join(trained)


def test_without_arguments_it_says_which_it_wants(stand_ins):
    result = run("bash", LAUNCH / "tpu_vm.sh", "tvt")
    assert result.returncode == 2
    assert "launch/tpu_vm.sh NAME ZONE TYPE VERSION ARGUMENTS..." in result.stderr
    assert not stand_ins.calls()


@pytest.mark.parametrize(
    ("status", "restarts", "requeued"),
    [(143, 0, True), (134, 99, True), (134, 100, False), (1, 0, False), (0, 0, False)],
)
def test_slurm_puts_a_stopped_job_back_and_no_failed_one(status, restarts, requeued, stand_ins, monkeypatch):
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    stand_ins.outcomes(str(status))
    assert run("bash", LAUNCH / "slurm.sh", *TRAIN).returncode == status
    assert (["scontrol", "requeue", "7"] in stand_ins.calls()) == requeued
    (ran,) = (call for call in stand_ins.calls() if call[0] == "srun")
    assert ran[-4:] == ["train.py", "--coordinator=auto", *TRAIN]


def test_slurm_is_asked_for_a_process_a_gpu_and_for_a_warning():
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", (LAUNCH / "slurm.sh").read_text(), re.MULTILINE))
    assert asked["gpus-per-node"] == asked["ntasks-per-node"]
    assert asked["signal"] == "TERM@300" and "requeue" in asked


@pytest.mark.slow
def test_slurm_stops_two_real_processes_and_the_same_command_goes_on(stand_ins, tmp_path):
    """srun's stand-in starts them, with the variables by which jax knows SLURM; all get SIGTERM, as at a preemption."""
    stand_ins.start_processes(2)
    settings = {"TOY_IMAGES": str(toy.write_images(tmp_path / "images")), "XDG_CACHE_HOME": str(tmp_path)}
    settings |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTHON": sys.executable, "SLURM_JOB_ID": "7"}
    settings |= {"JAX_COORDINATOR_PORT": str(free_port())}
    every = [f"--config.{name}_every={steps}" for name, steps in (("save", 300), ("log", 100), ("evaluate", 10_000))]
    train = ["--config=proofs/toy.py", f"--workdir={tmp_path / 'run'}", "--config.steps=1500", *every]
    command = ["bash", LAUNCH / "slurm.sh", *train]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    first = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, start_new_session=True, **pipes)
    try:
        while newest(tmp_path / "run" / "checkpoints") is None:
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGTERM)
        printed = first.communicate(timeout=100)[0]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
    assert first.returncode == 143, printed
    assert stand_ins.calls()[-1] == ["scontrol", "requeue", "7"]
    step = int(re.search(r"stopped by SIGTERM at step (\d+), saved", printed)[1])
    second = run(*command, env=os.environ | settings)
    assert second.returncode == 0, second.stderr
    going_on = f"going on from step {step} of 1500: 384 trainable parameters, 2 cpu device(s)"
    assert second.stdout.count(going_on) == 2
    assert read_model(tmp_path / "run" / "model").card.scale == 4


def instructions():
    text = (LAUNCH / "Dockerfile").read_text().replace("\\\n", "")
    return [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_the_image_installs_extras_that_there_are(platform, stand_ins):
    (command,) = (rest for name, rest in instructions() if name == "RUN")
    assert run("sh", "-c", command, env=os.environ | {"PLATFORM": platform}).returncode == 0
    (call,) = stand_ins.calls()
    extras = set(re.fullmatch(r"\.\[(.*)\]", call[-1])[1].split(","))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras <= set(known) and extras == {"gcs", platform} - {"cpu"}


def test_the_image_of_another_platform_is_refused(stand_ins):
    (command,) = (rest for name, rest in instructions() if name == "RUN")
    result = run("sh", "-c", command, env=os.environ | {"PLATFORM": "rocm"})
    assert (result.returncode, result.stderr) == (1, "error: PLATFORM=rocm is none of cpu, cuda and tpu\n")
    assert not stand_ins.calls()


def test_the_image_has_all_that_the_package_is_built_from():
    copied = {source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    needed |= {"train.py", "configs", *project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert needed <= copied
    assert all((ROOT / source).exists() for source in copied)
    sent = {line[1:] for line in (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert sent == copied
    (entry,) = (rest for name, rest in instructions() if name == "ENTRYPOINT")
    assert json.loads(entry) == ["python", "train.py"]
    assert {rest.partition("=")[0] for name, rest in instructions() if name == "ARG"} == {"PYTHON", "PLATFORM"}


@pytest.mark.slow
def test_what_the_image_copies_is_enough_for_a_configuration(tmp_path):
    """The same files in a folder of their own, without the rest of the project."""
    folder = tmp_path / "image"
    for name, rest in instructions():
        for source in rest.split()[:-1] if name == "COPY" else ():
            target = folder / source
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, target)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    wrong = ["--config=configs/sd21/rooted.py:gs://BUCKET/adapt", "--workdir=w", "--config.stepz=1"]
    result = run(sys.executable, "train.py", *wrong, cwd=folder, env=environment)
    assert result.stderr.startswith("error: --config.stepz: TrainConfig has no 'stepz'; did you mean steps")


def test_the_costs_are_those_of_the_plans():
    training = " ".join((ROOT / "docs" / "training.md").read_text().split())
    predicted = re.search(
        r"take 3\.66 GiB and (\.\d+) s in the decoder .* and (\.\d+) s in the encoder stage", training
    )
    adapt = re.search(r"predicted time of a step \| ([\d.]+) s \|", training)
    seconds = {"decoder": predicted[1], "encoder": predicted[2], "adapt": adapt[1]}
    total = 0.0
    for stage, each in seconds.items():
        config = load_config(ROOT / "configs" / "sd21" / f"{stage}.py")
        hours = config.steps * float(each) / 3600
        total += hours
        row = f"| `{stage}` | {config.steps:,} | {config.data.batch} | {each} | {hours:.1f} | {4 * hours:.1f} |"
        assert row in PAGE
    assert f"| all | | | | {total:.1f} | {4 * total:.1f} |" in PAGE
    rate = re.search(r"predicted images a second and chip \| [\d.]+ \| ([\d.]+) \|", training)[1]
    images = config.steps * config.data.batch
    assert f"predicted to make {rate} images" in PAGE
    assert f"{images:,} images are {images / float(rate) / 3600:.1f} chip-hours" in PAGE
