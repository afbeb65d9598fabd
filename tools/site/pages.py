"""What the documentation's site is made of: every page of docs/, the repository's own pages, and what they link to."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[2]
# Pages outside docs/, and their place in the site.
OWN = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
COPIED = (".png", ".jpg", ".json")

# Code comes first, so that nothing in it is taken for a formula or a link.
_TOKEN = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`)|\$\$(?P<block>.+?)\$\$|\$(?P<formula>[^$\n]+)\$|\]\((?P<link>[^)\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def write_pages(out: Path, root: Path = ROOT) -> None:
    """Write all pages into `out`, with links that hold there: to files outside docs/ too, which become pages.

    Raises:
        FileNotFoundError: a page links to a file that is not there.
    """
    waiting = [*OWN, *_below_docs(root)]
    seen = set(waiting)
    for name in waiting:
        target = out / place(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(COPIED):
            shutil.copyfile(root / name, target)
            continue
        text, linked = for_site(name, (root / name).read_text(encoding="utf-8"), root)
        target.write_text(text, encoding="utf-8")
        waiting.extend(sorted(linked - seen))
        seen |= linked


def _below_docs(root: Path) -> Iterator[str]:
    for path in sorted((root / "docs").rglob("*")):
        if path.suffix in (".md", *COPIED):
            yield path.relative_to(root).as_posix()


def place(name: str) -> str:
    """Give where a file of the repository lies in the site."""
    if name in OWN or name.startswith("docs/"):
        return OWN.get(name, name.removeprefix("docs/"))
    return f"source/{name}" if name.endswith((".md", *COPIED)) else f"source/{name}.md"


def for_site(name: str, text: str, root: Path = ROOT) -> tuple[str, set[str]]:
    """Turn a file into its page; give the files that it links to as well.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    if not name.endswith(".md"):
        return f"# {name}\n\n```{Path(name).suffix.removeprefix('.')}\n{text.rstrip()}\n```\n", set()
    linked: set[str] = set()

    def moved(link: str) -> str:
        path, mark, anchor = link.partition("#")
        if not path or "://" in path:
            return link
        file = os.path.normpath(os.path.join(os.path.dirname(name), path))
        if not (root / file).is_file():
            raise FileNotFoundError(f"{name} links to {link}, and {file} is no file of the repository")
        linked.add(file)
        return os.path.relpath(place(file), os.path.dirname(place(name))) + mark + anchor

    return _TOKEN.sub(_replaced(moved), text), linked


def _replaced(moved: Callable[[str], str]) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        if match["link"]:
            return f"]({moved(match['link'])})"
        if match["block"]:
            return convert(match["block"], display="block")
        return convert(match["formula"]) if match["formula"] else match[0]

    return replace
