"""Font packages of Debian, and what can be written with each face."""

import fnmatch
import math
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fontTools.ttLib import TTFont

from tools.fetch.registry import copy_licences, download, move_whole
from tvt_jax.data.text.excluded import BENCHMARK_FACES, HELD_OUT_FACES

# Package -> patterns of its font files; most have nothing but letters in all.
PACKAGES: dict[str, tuple[str, ...]] = dict.fromkeys(
    (
        "fonts-arphic-ukai fonts-arphic-uming fonts-b612 fonts-baekmuk fonts-bebas-neue fonts-cabin fonts-cantarell "
        "fonts-comfortaa fonts-comic-neue fonts-courier-prime fonts-crosextra-caladea fonts-crosextra-carlito "
        "fonts-dancingscript fonts-dkg-handwriting fonts-dosis fonts-ebgaramond fonts-firacode fonts-freefont-ttf "
        "fonts-go fonts-humor-sans fonts-inconsolata fonts-ipafont-gothic fonts-ipafont-mincho fonts-jetbrains-mono "
        "fonts-jura fonts-kaushanscript fonts-klee fonts-kristi fonts-lato fonts-league-spartan fonts-liberation2 "
        "fonts-linuxlibertine fonts-lobster fonts-lxgw-wenkai fonts-manrope fonts-migmix "
        "fonts-morisawa-bizud-gothic fonts-nanum fonts-ocr-a fonts-ocr-b fonts-oldstandard fonts-open-sans "
        "fonts-opendin fonts-paratype fonts-play fonts-quicksand fonts-rampart fonts-roboto-slab "
        "fonts-roboto-unhinted fonts-rocknroll fonts-sawarabi-gothic fonts-sawarabi-mincho fonts-smiley-sans "
        "fonts-takao-gothic fonts-unfonts-core fonts-vlgothic fonts-vollkorn fonts-wqy-microhei "
        "fonts-yanone-kaffeesatz fonts-yusei-magic"
    ).split(),
    ("*",),
) | {
    "fonts-noto-core": ("NotoSans-*", "NotoSerif-*", "NotoSansDisplay-*", "NotoSerifDisplay-*"),
    "fonts-urw-base35": ("C059*", "Nimbus*", "P052*", "URW*", "Z003*"),
    "fonts-fantasque-sans": ("*.ttf",),
}
WITHOUT = ("*Initials*", "*Keyboard*", "*Thin*", "*Hairline*")  # ornaments, keys, and hairs that no camera sees
FACES_OF_A_FAMILY = 3  # at most, as some families have dozens
_SUFFIXES = (".ttf", ".otf", ".ttc")


@dataclass(frozen=True, kw_only=True)
class Face:
    """A font file (of a collection its first face), its family, and the texts of which it has all characters."""

    file: Path
    family: str
    texts: tuple[str, ...]


def fetch_fonts(destination: Path) -> list[str]:
    """Fetch the packages of which there is no folder yet below fonts/; returns what could not be had."""
    failures = []
    for package, patterns in PACKAGES.items():
        target = destination / "fonts" / package
        if target.exists():
            continue
        print(f"{package} (apt)", flush=True)
        with tempfile.TemporaryDirectory(dir=destination, prefix=".download-") as folder:
            try:
                root, _ = download("apt", package, Path(folder))
                made = _take_fonts(root, patterns, Path(folder, "fonts"))
            except (RuntimeError, OSError) as error:
                failures.append(f"{package}: {error}")
                continue
            copy_licences(root, package, "apt", root, destination / "licences" / package)
            move_whole(made, target)
    return failures


def _take_fonts(root: Path, patterns: tuple[str, ...], made: Path) -> Path:
    made.mkdir()
    for file in sorted((root / "usr/share/fonts").rglob("*")):
        wanted = any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)
        if wanted and file.suffix in _SUFFIXES and not any(fnmatch.fnmatch(file.name, name) for name in WITHOUT):
            shutil.copyfile(file.resolve(), made / file.name)
    if not any(made.iterdir()):
        raise RuntimeError(f"no font is named {' or '.join(patterns)}; was another version fetched?")
    return made


def faces(destination: Path, characters: Mapping[str, set[str]], held_out: bool) -> list[Face]:
    """Give the faces below fonts/ to train with, or those held out, with the texts of which they have all characters.

    Faces of the benchmarks are neither. Of large families an even choice is taken.

    Args:
        destination: Folder above fonts/.
        characters: Those of each text.
        held_out: Which of the two.
    """
    families: dict[str, list[Face]] = defaultdict(list)
    for file in sorted((destination / "fonts").rglob("*")):
        if file.suffix in _SUFFIXES:
            font = TTFont(file, fontNumber=0)
            family, texts = str(font["name"].getBestFamilyName()), _covered(font, characters)
            if texts and family.startswith(HELD_OUT_FACES) == held_out and not family.startswith(BENCHMARK_FACES):
                families[family].append(Face(file=file, family=family, texts=texts))
    return [face for members in families.values() for face in members[:: math.ceil(len(members) / FACES_OF_A_FAMILY)]]


def _covered(font: TTFont, characters: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Give the texts of which the face has every character."""
    known = font.getBestCmap() or {}
    return tuple(text for text, needed in characters.items() if all(ord(character) in known for character in needed))
