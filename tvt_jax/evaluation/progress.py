"""What is scored already, so that an evaluation that was cut off goes on, and a finished one is not done again."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tvt_jax.evaluation.scores import Evaluation, Values, read_evaluation
from tvt_jax.fingerprint import file_hash

# Files and folders of this package that values depend on: what reads and scores pictures, and what makes them.
METRIC_CODE = (
    *("evaluation/metrics.py", "evaluation/pictures.py", "evaluation/scoring.py", "metrics", "models", "pixels.py"),
    *(f"inference/{name}.py" for name in ("channels", "decoding", "images", "jpeg", "metadata", "png")),
)


@dataclass(kw_only=True)
class Scores:
    """What is known of one image: its values, why they need care, and how long the model took."""

    values: Values
    warnings: str = ""
    seconds: float | None = None


class Progress:
    """The scores of each image under a fingerprint of all that they depend on.

    Attributes:
        folder: beside the file that an evaluation writes, and gone at its end; what must outlive an interruption.
    """

    def __init__(self, out: Path, settings: str, *, force: bool = False) -> None:
        """Read what is known, from `out` where it is written and from `folder`.

        Args:
            out: the file that the evaluation writes.
            settings: what the values depend on beside the files of each image: the metrics, the code, the model.
            force: forget what is known, and all in `folder`.
        """
        self.folder = out.with_name(f"{out.name}.unfinished")
        self._lines = self.folder / "scores.jsonl"
        self._settings = settings
        if force:
            self.finish()
        self._known = {} if force else dict(_read_finished(out)) | dict(_read_lines(self._lines))

    def fingerprint(self, *files: Path) -> str:
        """Hash the settings and the content of the files; one that is not there counts as such."""
        digest = hashlib.sha256(self._settings.encode())
        for file in files:
            digest.update(file_hash(file) if file.is_file() else b"none")
        return digest.hexdigest()[:32]

    def known(self, fingerprint: str) -> Scores | None:
        """Return the scores of an image that was scored before, or None."""
        return self._known.get(fingerprint)

    def add(self, fingerprint: str, scores: Scores) -> None:
        """Keep the scores of an image, at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lines.open("a", encoding="utf-8") as file:
            # The end of the line comes first: where the line before was cut off, this one is whole all the same.
            file.write("\n" + json.dumps({"fingerprint": fingerprint, **asdict(scores)}))

    def finish(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read_finished(out: Path) -> Iterator[tuple[str, Scores]]:
    try:
        finished = read_evaluation(out)
    except (OSError, ValueError):
        finished = Evaluation()
    for name, fingerprint in finished.fingerprints.items():
        if name in finished.images and name not in finished.failures:
            scores = Scores(values=finished.images[name], warnings=finished.warnings.get(name, ""))
            scores.seconds = finished.seconds.get(name)
            yield fingerprint, scores


def _read_lines(path: Path) -> Iterator[tuple[str, Scores]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
            yield entry.pop("fingerprint"), Scores(**entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
