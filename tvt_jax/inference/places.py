"""Which pictures are meant, and where their results go; settled before any work."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tvt_jax.inference.images import READABLE, read_mark
from tvt_jax.inference.mark import is_mark
from tvt_jax.inference.writing import ENDINGS, FORMATS, format_of

Pair = tuple[Path, Path]


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How results are named.

    Attributes:
        suffix: put between a name and its ending.
        image_format: of all results, as Pillow names it; None is the input's own, PNG where that isn't written.
    """

    suffix: str = ""
    image_format: str | None = None

    def name(self, file: Path) -> Path:
        """Name the result of `file`."""
        ending = file.suffix if file.suffix.lower() in FORMATS else ".png"
        if self.image_format is not None and FORMATS[ending.lower()] != self.image_format:
            ending = ENDINGS[self.image_format][0]
        return file.with_name(f"{file.stem}{self.suffix}{ending}")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Pictures, each with the file its result goes to, and what of folders was passed by: path -> why."""

    pairs: list[Pair] = field(default_factory=list)
    passed: dict[Path, str] = field(default_factory=dict)


def place_files(sources: Sequence[Path], target: Path, naming: Naming = Naming(), folder: bool = False) -> Places:
    """Pair every picture of `sources` (files and folders) with the file its result goes to.

    A folder is searched through, and results keep name and place; those of one of several folders lie below its name.
    Formats that are read but not written become PNG.

    Args:
        sources: files and folders.
        target: a folder, if it is one, has no ending, or there is more than a file; else the result itself.
        naming: how results are named.
        folder: whether `target` is a folder in any case.

    Raises:
        FileNotFoundError: there is no such file, or no picture in a folder.
        ValueError: the results' format is unknown, two would get the same name, or one would overwrite an input.
    """
    places = Places()
    folder = folder or len(sources) > 1 or sources[0].is_dir() or target.is_dir() or not target.suffix
    if folder and target.is_file():
        raise ValueError(f"{target} is a file, and OUT must be a folder here")
    for source in sources:
        below = target / source.resolve().name if len(sources) > 1 and source.is_dir() else target
        if source.is_dir():
            _add_folder(places, source, below, naming, target)
        elif source.is_file():
            places.pairs.append((source, below / naming.name(Path(source.name)) if folder else _named(target, naming)))
        else:
            raise FileNotFoundError(f"{source} doesn't exist")
    _check(places.pairs)
    return places


def _named(target: Path, naming: Naming) -> Path:
    """Give a result that has been named already."""
    if naming.suffix:
        raise ValueError(f"--suffix names results in a folder, and {target} is a file: drop one of them")
    if naming.image_format not in (None, format_of(target)):
        raise ValueError(f"{target} ends like {format_of(target)}, and --format asks for {naming.image_format}")
    return target


def _add_folder(places: Places, source: Path, below: Path, naming: Naming, target: Path) -> None:
    pairs = []
    for path, why in _search(source, target):
        if why:
            places.passed[path] = why
        else:
            pairs.append((path, below / naming.name(path.relative_to(source))))
    if not pairs:
        made = any(why == _MADE for why in places.passed.values())
        kinds = "but results of tvt" if made else f"({' '.join(sorted(READABLE))})"
        raise FileNotFoundError(f"{source} has no pictures in it {kinds}")
    places.pairs.extend(pairs)


_HIDDEN, _KIND, _MADE = "hidden", "of another kind", "made by tvt before"
_OUT, _SEEN, _CLOSED = "results", "in another place already", "not open to you"


def _search(source: Path, target: Path) -> Iterator[tuple[Path, str]]:
    """Every file and what isn't gone into, with the reason to pass it by; links to folders come last."""
    # OUT within IN holds results; where both are one folder, marks tell.
    out = target.resolve() if target.resolve() != source.resolve() else None
    folders, links, seen = [source], list[Path](), set[Path]()
    while folders or links:
        folder = folders.pop(0) if folders else links.pop(0)
        if folder.resolve() in seen:
            yield folder, _SEEN
            continue
        seen.add(folder.resolve())
        if not os.access(folder, os.R_OK | os.X_OK):
            yield folder, _CLOSED
            continue
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = folder / entry.name
            if entry.name.startswith("."):
                yield path, _HIDDEN
            elif not path.is_dir():  # of a link to itself, an entry raises
                yield path, _why_not(path)
            elif path.resolve() == out:
                yield path, _OUT
            else:
                (links if entry.is_symlink() else folders).append(path)


def _why_not(path: Path) -> str:
    if path.suffix.lower() not in READABLE or not path.is_file():
        return _KIND
    return _MADE if is_mark(read_mark(path)) else ""


def _check(pairs: list[Pair]) -> None:
    for _, result in pairs:
        format_of(result)
    shared = [str(result) for result, count in Counter(result for _, result in pairs).items() if count > 1]
    if shared:
        raise ValueError(f"several pictures would be written to {', '.join(shared)}: rename all but one of each")
    inputs = {path.resolve() for path, _ in pairs}
    if overwritten := [str(result) for _, result in pairs if result.resolve() in inputs]:
        raise ValueError(f"{overwritten[0]} is an input and would be overwritten: choose another OUT, or a --suffix")
