"""Training images with real low-resolution counterparts, matched by name."""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from tvt_jax.data.sources import Described, Pair, UnreadableImageError, list_images, one_line, read_image
from tvt_jax.data.texts import Texts
from tvt_jax.place import Place, place

_ROLE = re.compile(r"[_-](?:LR|SR|HR|GT)(\d*)$", re.IGNORECASE)


class PairSource:
    """All images below a folder with their counterparts below another, matched by `by_partner_name`.

    Raises:
        ValueError: some have none, or two have the same name.
    """

    def __init__(self, path: str | Path, lr_path: str | Path, scale: int) -> None:
        self._root, self._scale = place(path), scale
        roots = place(path), place(lr_path)
        hr, lr = (by_partner_name(list_images(root), root, scale) for root in roots)
        if alone := sorted(hr.keys() - lr.keys()):
            raise ValueError(
                f"{len(alone)} of {len(hr)} images below {path} have no counterpart of their name below {lr_path}, "
                f"among them {hr[alone[0]]}"
            )
        self.files = [(file, lr[name]) for name, file in hr.items()]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Pair:
        pair = Pair(*(read_image(file) for file in self.files[index]))
        (height, width, _), (low_height, low_width, _) = pair.hr.shape, pair.lr.shape
        if (height, width) != (self._scale * low_height, self._scale * low_width):
            raise UnreadableImageError(
                f"{one_line(self.files[index][0])}: {width}x{height} is not {self._scale} times its counterpart's "
                f"{low_width}x{low_height}"
            )
        return pair

    def texts(self) -> set[str]:
        """Give the distinct texts of the images at full size."""
        return {self._texts[hr] for hr, _ in self.files}

    def described(self, index: int) -> Described:
        """Read a pair with the text of the image at full size."""
        return Described(self[index], self._texts[self.files[index][0]])

    @cached_property
    def _texts(self) -> Texts:
        return Texts(self._root)


def by_partner_name(files: Iterable[Place], root: Place, scale: int) -> dict[str, Place]:
    """Name files by what those of two folders share: the name without ending and a last _LR, _SR, _HR or _GT.

    A number after it is left out where it is the scale: `img_LR4` belongs to `img_HR`, `img_LR1` to no `img_HR2`.

    Raises:
        ValueError: Two files have the same name.
    """

    def keep_number(role: re.Match[str]) -> str:
        return "" if role[1] in ("", str(scale)) else f"_{role[1]}"

    named: dict[str, Place] = {}
    for file in files:
        name = (file.relative_to(root).parent / _ROLE.sub(keep_number, file.stem)).as_posix()
        if name in named:
            raise ValueError(f"{named[name]} and {file} have the same name '{name}': keep one of them")
        named[name] = file
    return named
