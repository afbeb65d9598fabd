"""RAM's checkpoint, with DAPE's LoRA or without, -> tagger folder."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert import ram as release
from convert.layout import finite
from convert.lora import fuse
from convert.room import room_for
from tvt_jax.tagger_folder import TaggerCard, write_tagger

LICENCE = "Apache-2.0 (Recognize Anything)"


@dataclass(frozen=True)
class ReadTagger:
    """RAM's tensors, still to be read from their mapped files, with DAPE's LoRA; and its card.

    Attributes:
        tensors: by RAM's own names.
        card: tags and origin.
        said: what was read, for the user.
    """

    tensors: dict[str, Any]
    card: TaggerCard
    said: str

    @property
    def size(self) -> int:
        """Bytes of the weights that are written."""
        return sum(math.prod(tensor.shape) * 4 for tensor in self.tensors.values())

    def write(self, out: Path) -> None:
        """Write a tagger folder; raise FileExistsError where `out` is something else."""
        write_tagger(out, release.CONFIG, self.tensors, self.card)


def read_files(ram: Path, *, tags: Path, thresholds: Path, dape: Path | None = None) -> ReadTagger:
    """Read RAM, and DAPE's LoRA into it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not what it should be.
    """
    known = release.read_tags(tags, thresholds)
    tensors = release.read_ram(ram)
    lora = release.read_dape(dape) if dape else {}
    origin = f"RAM, {ram.name}" + (f", with DAPE, {dape.name}" if dape else "")
    said = f"{origin}: {len(tensors)} tensors, {len(lora)} of them with LoRA, {len(known)} tags"
    card = TaggerCard(tags=known, licence=LICENCE, source=origin)
    return ReadTagger(finite(fuse(tensors, lora), "RAM"), card, said)


def import_ram(ram: Path, out: Path, *, tags: Path, thresholds: Path, dape: Path | None = None) -> str:
    """Write RAM as a tagger folder, DAPE's LoRA fused; give what was read, for the user.

    Raises:
        As `read_files`, and FileExistsError: `out` is something else than a tagger folder.
    """
    read = read_files(ram, tags=tags, thresholds=thresholds, dape=dape)
    write_ram(read, out)
    return read.said


def write_ram(read: ReadTagger, out: Path) -> None:
    """Write a tagger folder, having looked for room; raise FileExistsError where `out` is something else."""
    with room_for(out, read.size):
        read.write(out)
