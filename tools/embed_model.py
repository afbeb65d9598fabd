"""Put a trained model into the package, as float16: python tools/embed_model.py MODEL [OUT]"""

import sys
from dataclasses import replace
from pathlib import Path

from tvt_jax.model_folder import count_parameters, read_model, write_model

TARGET = Path(__file__).resolve().parent.parent / "tvt_jax" / "pretrained" / "tiny"
LARGEST = 24 * 2**20


def main(source: Path, target: Path = TARGET) -> None:
    """Write the folder anew, keep its README, and fail if it is larger than LARGEST bytes."""
    card = target / "README.md"
    text = card.read_text() if card.is_file() else ""
    folder = read_model(source)
    licence = "Apache-2.0; README.md lists the photos it was trained on and their licences"
    write_model(target, replace(folder, card=replace(folder.card, licence=licence)), dtype="float16")
    card.write_text(text)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    parameters = count_parameters(folder.vae) + count_parameters(folder.unet)
    print(f"{target}: {parameters:,} parameters, {size / 2**20:.1f} MiB")
    if size > LARGEST:
        sys.exit(f"error: that is more than the {LARGEST / 2**20:.0f} MiB the package may carry")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
