"""What one command does: files into files, or a picture through standard input and output."""

import io
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tvt_jax.inference.batch import How, is_done, upscale_data, upscale_files
from tvt_jax.inference.check import Scale
from tvt_jax.inference.places import Naming, Places, place_files
from tvt_jax.inference.room import check_room
from tvt_jax.inference.upscaler import Upscaler
from tvt_jax.inference.writing import LOSSY, encode_picture, format_of, write_picture

STANDARD = "-"
# Of what a folder run passed by, so many are named for each reason.
NAMED = 50


@dataclass(frozen=True)
class Files:
    """Files that become files."""

    places: Places
    done: int = 0

    def left(self, recipe: str) -> "Files | None":
        """Give what hasn't been done by `recipe` before; None, with a report, where all has."""
        pairs = [pair for pair in self.places.pairs if not is_done(pair, recipe)]
        job = Files(replace(self.places, pairs=pairs), len(self.places.pairs) - len(pairs))
        if pairs:
            return job
        job.report()
        return None

    def check(self, scale: Scale) -> None:
        """Raise ValueError if results can't be written."""
        check_room(self.places.pairs, scale)

    def run(self, upscaler: Upscaler, scale: Scale, how: How) -> int:
        """Upscale them, report, and return the exit status."""
        failures = upscale_files(upscaler, self.places.pairs, scale, how)
        self.report()
        if failures:
            names = "".join(f"\n  {path}" for path in failures)
            print(f"error: {len(failures)} of {len(self.places.pairs)} pictures failed:{names}", file=sys.stderr)
        return 1 if failures else 0

    def report(self) -> None:
        """Say what was not done."""
        if self.done:
            print(f"left out {self.done} that {'is' if self.done == 1 else 'are'} done already", file=sys.stderr)
        if self.places.passed:
            print(f"passed by {len(self.places.passed)}:{_listed(self.places.passed)}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """One picture that comes from standard input, or goes to standard output, or both."""

    source: str
    target: str
    image_format: str

    def left(self, recipe: str) -> "Pipe":
        """Raise ValueError: what was written to standard output can't be seen."""
        raise ValueError("--skip-existing looks for files, and - is none: drop one of them")

    def check(self, scale: Scale) -> None:
        """Raise ValueError if the result can't be written."""
        if self.target != STANDARD:
            check_room([(Path(self.source), Path(self.target))], scale)

    def run(self, upscaler: Upscaler, scale: Scale, how: How) -> int:
        """Upscale it, and return the exit status."""
        data = sys.stdin.buffer.read() if self.source == STANDARD else Path(self.source).read_bytes()
        name = "standard input" if self.source == STANDARD else self.source
        picture = upscale_data(upscaler, data, name, scale, how)
        if self.target != STANDARD:
            write_picture(Path(self.target), picture, how.quality)
            return 0
        stream = io.BytesIO()
        encode_picture(stream, picture, self.image_format, how.quality)
        sys.stdout.buffer.write(stream.getbuffer())
        sys.stdout.buffer.flush()
        return 0


Job = Files | Pipe


def settle(paths: tuple[str, ...], naming: Naming, quality: int | None) -> Job:
    """Settle what the paths of a command line mean, the last of which is where results go.

    Raises:
        FileNotFoundError: a file isn't there, or a folder has no pictures.
        ValueError: something can't work: see `place_files`; or `quality` is of no use.
    """
    *sources, target = paths
    job: Job
    if STANDARD in paths:
        job, formats = _pipe(sources, target, naming)
    else:
        folder = target.endswith("/")
        places = place_files([Path(source) for source in sources], Path(target), naming, folder)
        job, formats = Files(places), {format_of(result) for _, result in places.pairs}
    if quality is not None and not formats & set(LOSSY):
        raise ValueError(f"quality={quality} is for {', '.join(LOSSY)}, and no result is one of them")
    return job


def check_quality(quality: int | None) -> None:
    """Raise ValueError if a quality is out of range."""
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality={quality} is out of range, use 1 to 100")


def require_folders(paths: tuple[str, ...]) -> None:
    """Raise ValueError if what is to be watched is no folder, or results don't become files."""
    for path in paths:
        if path == STANDARD or (path != paths[-1] and not Path(path).is_dir()):
            raise ValueError(f"{path} is no folder, and --watch watches folders")


def _pipe(sources: list[str], target: str, naming: Naming) -> tuple[Job, set[str]]:
    if len(sources) > 1:
        raise ValueError("- is one picture: it can't go together with others")
    if naming.suffix:
        raise ValueError("--suffix names files, and - is none: drop one of them")
    if sources[0] != STANDARD and not Path(sources[0]).is_file():
        raise FileNotFoundError(f"{sources[0]} is no file, and what goes to standard output must be one picture")
    image_format = naming.image_format or ("PNG" if target == STANDARD else format_of(Path(target)))
    if target != STANDARD and format_of(Path(target)) != image_format:
        raise ValueError(f"{target} ends like {format_of(Path(target))}, and --format asks for {image_format}")
    return Pipe(source=sources[0], target=target, image_format=image_format), {image_format}


def _listed(passed: Mapping[Path, str]) -> str:
    reasons = defaultdict[str, list[str]](list)
    for path, why in passed.items():
        reasons[why].append(str(path))
    return "".join(f"\n  {len(names)} {why}: {_some(names)}" for why, names in sorted(reasons.items()))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
