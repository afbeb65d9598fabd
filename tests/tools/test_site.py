"""The documentation's site: pages, links, formulas, and the whole of it, warnings as errors."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("latex2mathml", reason="comes with the extra 'docs'")

from tools.build_site import build
from tools.site.pages import OWN, ROOT, for_site, place


class Nearest:
    def upscale(self, image: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(image, 4, axis=0), 4, axis=1)


def in_navigation(entries: list) -> list[str]:
    flat: list[str] = []
    for entry in entries:
        for value in entry.values():
            flat += [value] if isinstance(value, str) else in_navigation(value)
    return flat


def test_every_page_is_in_the_navigation_once() -> None:
    settings = tomllib.loads((ROOT / "docs" / "zensical.toml").read_text(encoding="utf-8"))
    pages = [*OWN.values(), *(path.name for path in (ROOT / "docs").glob("*.md"))]
    assert sorted(in_navigation(settings["project"]["nav"])) == sorted(pages)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("README.md", "[a](docs/files.md#what-is-read)", "[a](files.md#what-is-read)"),
        ("README.md", "![a](docs/images/demo.png)", "![a](images/demo.png)"),
        ("docs/files.md", "[a](../README.md#results)", "[a](index.md#results)"),
        ("docs/files.md", "[a](../tvt_jax/model_folder.py)", "[a](source/tvt_jax/model_folder.py.md)"),
        ("CONTRIBUTING.md", "[`a`](docs/stages.md)", "[`a`](stages.md)"),
        ("docs/files.md", "[a](#b), [c](https://example.org/d.md)", "[a](#b), [c](https://example.org/d.md)"),
        ("docs/files.md", "`[a](none.md) $b$`", "`[a](none.md) $b$`"),
        ("docs/files.md", "```\n[a](none.md) $b$\n```", "```\n[a](none.md) $b$\n```"),
    ],
)
def test_links_hold_on_the_site(name: str, text: str, expected: str) -> None:
    assert for_site(name, text)[0] == expected


def test_a_link_to_nowhere_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"docs/files.md links to none.md, and docs/none.md is no file"):
        for_site("docs/files.md", "[a](none.md)")


def test_a_file_that_is_linked_to_becomes_a_page() -> None:
    assert for_site("docs/files.md", "[a](../train.py)")[1] == {"train.py"}
    assert place("train.py") == "source/train.py.md"
    page, linked = for_site("train.py", "x = 1  # [a](none.md)\n")
    assert page == "# train.py\n\n```py\nx = 1  # [a](none.md)\n```\n" and not linked


def test_formulas_become_mathml() -> None:
    page, _ = for_site("docs/files.md", r"a $\frac{x}{2}$ and $$y$$")
    assert re.fullmatch(r"a <math .*<mfrac>.*</math> and <math .*display=\"block\".*</math>", page)


@pytest.mark.slow
def test_the_whole_site(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="comes with the extra 'docs'")
    build(tmp_path, Nearest())
    gallery = (tmp_path / "site" / "gallery.html").read_text(encoding="utf-8")
    pictures = re.findall(r'data-(?:left|right)="([^"]+)"', gallery)
    assert len(pictures) == 10
    for picture in pictures:
        with Image.open(tmp_path / "site" / picture) as image:
            assert re.search(f'{picture}.*data-width="{image.width}" data-height="{image.height}"', gallery)
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    documented = re.findall(r"^::: (\S+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert documented and all(f'id="{name}"' in api for name in documented)
    assert "shape of its VAE" in api  # what attributes mean, from the docstrings
