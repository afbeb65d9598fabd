"""RAM's checkpoint, with DAPE's LoRA or without, -> tagger folder."""

import math
from pathlib import Path

from convert import ram as release
from convert.layout import finite
from convert.lora import fuse
from convert.room import room_for
from tvt_jax.tagger_folder import TaggerCard, write_tagger

LICENCE = "Apache-2.0 (Recognize Anything)"


def import_ram(ram: Path, out: Path, *, tags: Path, thresholds: Path, dape: Path | None = None) -> str:
    """Write RAM as a tagger folder, DAPE's LoRA fused; give what was read, for the user.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not what it should be.
        FileExistsError: `out` is something else than a tagger folder.
    """
    known = release.read_tags(tags, thresholds)
    tensors = release.read_ram(ram)
    lora = release.read_dape(dape) if dape else {}
    origin = f"RAM, {ram.name}" + (f", with DAPE, {dape.name}" if dape else "")
    card = TaggerCard(tags=known, licence=LICENCE, source=origin)
    with room_for(out, sum(math.prod(tensor.shape) * 4 for tensor in tensors.values())):
        write_tagger(out, release.CONFIG, finite(fuse(tensors, lora), "RAM"), card)
    return f"{origin}: {len(tensors)} tensors, {len(lora)} of them with LoRA, {len(known)} tags"
