"""Build the documentation's site from docs/, warnings as errors: `make docs`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import tyro

import tvt_jax
from tools.site.gallery import Enlarging, write_gallery
from tools.site.pages import ROOT, write_pages


def main(out: Path = ROOT / "build" / "docs") -> None:
    """Write the pages and their gallery into OUT/pages, and the site into OUT/site."""
    build(out, tvt_jax.load())
    print(f"open {out / 'site' / 'index.html'}")


def build(out: Path, upscaler: Enlarging) -> None:
    """Build the site with a gallery of what this upscaler makes.

    Raises:
        SystemExit: there was a warning, or an error.
    """
    for folder in ("pages", "site"):
        shutil.rmtree(out / folder, ignore_errors=True)
    write_pages(out / "pages")
    write_gallery(out / "pages", upscaler)
    shutil.copyfile(ROOT / "docs" / "zensical.toml", out / "zensical.toml")
    # The API's pages are made of the sources, which need not be installed.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    if status := subprocess.run(command, cwd=out, env=environment).returncode:
        sys.exit(status)


if __name__ == "__main__":
    tyro.cli(main)
