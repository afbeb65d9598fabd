"""What is scored already, so that an evaluation that was cut off goes on, and a finished one is not done again."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tvt_jax.evaluation.scores import Evaluation, read_evaluation

Values = dict[str, float]


class Progress:
    """The values of each image under a fingerprint of all that they depend on.

    Attributes:
        folder: beside the file that an evaluation writes at its end, and gone then; what must outlive an interruption.
    """

    def __init__(self, out: Path, settings: str) -> None:
        """Read what is known, from `out` where it is written and from `folder`.

        Args:
            out: the file that the evaluation writes.
            settings: what the values depend on beside the files of each image: the metrics, the model.
        """
        self.folder = out.with_name(f"{out.name}.unfinished")
        self._lines = self.folder / "scores.jsonl"
        self._settings = settings
        self._known = dict(_read_finished(out)) | dict(_read_lines(self._lines))

    def fingerprint(self, *files: Path) -> str:
        """Hash the settings and the content of the files; one that is not there counts as such."""
        digest = hashlib.sha256(self._settings.encode())
        for file in files:
            digest.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"none")
        return digest.hexdigest()[:32]

    def known(self, fingerprint: str) -> Values | None:
        """Return the values of an image that was scored before, or None."""
        return self._known.get(fingerprint)

    def add(self, fingerprint: str, values: Values) -> None:
        """Keep the values of an image, at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lines.open("a", encoding="utf-8") as file:
            # The end of the line comes first: where the line before was cut off, this one is whole all the same.
            file.write("\n" + json.dumps({"fingerprint": fingerprint, "values": values}))

    def finish(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def model_fingerprint(model: Path) -> str:
    """Hash all configurations and weights of a model folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.suffix in {".json", ".safetensors"}):
        digest.update(str(path.relative_to(model)).encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()


def _read_finished(out: Path) -> Iterator[tuple[str, Values]]:
    try:
        finished = read_evaluation(out)
    except (OSError, ValueError):
        finished = Evaluation()
    for name, fingerprint in finished.fingerprints.items():
        yield fingerprint, finished.images[name]


def _read_lines(path: Path) -> Iterator[tuple[str, Values]]:
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield entry["fingerprint"], entry["values"]
