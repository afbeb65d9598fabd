"""The wheel in a fresh environment, with packages of the registry: README's commands run as they are printed."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import tvt_jax

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
LINES = [re.split(r"\s+#\s", line)[0].strip() for kind, block in BLOCKS if not kind for line in block.splitlines()]
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)
NAMED = [" ".join(command.split()) for command in re.findall(r"`((?:tvt|make|pip|python) [^`]+)`", PROSE)]
COMMANDS = sorted({*LINES, *NAMED})
(SCRIPT,) = [block for kind, block in BLOCKS if kind == "python"]

CLONE = "needs a clone: a wheel has neither Makefile nor configs nor benchmarks"
NOT_RUN = {
    "git clone ADDRESS tvt-jax && cd tvt-jax": "makes a clone",
    "make demo": CLONE,
    "make docs": CLONE,
    "make test": CLONE,
    "make pretrained": CLONE,
    "pip install .": "the fixture does it, with the wheel in place of the clone",
    "python train.py": CLONE,
    "python eval.py": CLONE,
    "python train.py --config=configs/tiny/vae.py --workdir=runs/tiny/vae": CLONE,
    "python eval.py --model runs/tiny/adapt/model --lr LR_DIR --hr HR_DIR --out metrics.json": CLONE,
    "python eval.py --lr LR --hr HR --metrics psnr-y,ssim-y,lpips-alex,dists --out m.json": CLONE + "; RealSR's pairs",
    "python -m benchmarks.transfer --vae8 runs/tiny/vae/model --decoder runs/tiny/decoder/model --encoder "
    "runs/tiny/encoder/model --scratch runs/tiny/scratch/model "
    "--images data/photos/held_out --out runs/transfer": CLONE,
}
SERVER = 'pip install ".[serve]" && tvt serve'
# What the prose only names is asked for its help.
RUN = [command for command in COMMANDS if command not in {SERVER, *NOT_RUN}]
HELP = re.compile(r"tvt [a-z-]+|python -m convert")


def test_every_command_is_run_or_told_why_not() -> None:
    assert not [command for command in RUN if not command.startswith(("tvt ", "python -m convert"))]
    assert not set(NOT_RUN) - set(COMMANDS)
    assert SERVER in COMMANDS


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Gives a folder with photos in it, and the variables of an environment that has the wheel."""
    root = tmp_path_factory.mktemp("wheel")
    pip = [str(root / "venv" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", root / "dist", ROOT], check=True)
    (wheel,) = (root / "dist").glob("*.whl")
    subprocess.run([*pip, "install", f"{wheel}[serve]"], check=True)
    work = root / "work"
    for folder in ("holiday", "examples"):
        (work / folder).mkdir(parents=True)
    with Image.open(ROOT / "examples" / "coffee.jpg") as photo:
        photo.save(work / "examples" / "coffee.jpg")
        for name in ("photo.jpg", "holiday/one.jpg"):
            photo.crop((10, 10, 106, 74)).save(work / name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    path = f"{root / 'venv' / 'bin'}:{os.environ['PATH']}"
    return work, kept | {"PATH": path, "XDG_CACHE_HOME": str(root / "cache"), "JAX_PLATFORMS": "cpu"}


@pytest.mark.slow
def test_the_package_is_the_wheels(environment: tuple[Path, dict[str, str]]) -> None:
    work, variables = environment
    command = ["python", "-c", "import tvt_jax; print(tvt_jax.__file__)"]
    printed = subprocess.run(command, cwd=work, env=variables, check=True, capture_output=True, text=True).stdout
    assert Path(printed.strip()).is_relative_to(work.parent / "venv")


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_the_command_runs_as_printed(environment: tuple[Path, dict[str, str]], command: str) -> None:
    work, variables = environment
    words = f"{command} --help" if HELP.fullmatch(command) else command
    done = subprocess.run(["bash", "-c", words], cwd=work, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if command == "tvt --version":
        assert done.stdout == f"tvt {tvt_jax.__version__}\n"
    results = {"tvt upscale photo.jpg": "large.png", "tvt upscale holiday/": "holiday_x4/one.jpg"}
    for result in (name for start, name in results.items() if command.startswith(start)):
        with Image.open(work / result) as image:
            assert image.size == (384, 256)


@pytest.mark.slow
def test_the_script_runs_as_printed(environment: tuple[Path, dict[str, str]]) -> None:
    work, variables = environment
    subprocess.run(["python", "-c", SCRIPT], cwd=work, env=variables, check=True)
    with Image.open(work / "large.png") as image:
        assert image.size == (600, 400)


@pytest.mark.slow
def test_the_page_starts_as_printed(environment: tuple[Path, dict[str, str]]) -> None:
    work, variables = environment
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", 7860)) == 0
    command = SERVER.split(" && ")[1].split() + ["--port", "0"] * taken
    with subprocess.Popen(command, cwd=work, env=variables, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert f"http://127.0.0.1:{'' if taken else 7860}" in server.stdout.readline()
        server.terminate()  # a test in the background would not hear Ctrl-C
