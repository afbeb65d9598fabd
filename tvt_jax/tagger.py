"""What is in a picture, as tags: RAM at work, as the TVT release asks it for its prompts."""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from tvt_jax.models.tagger import RAM
from tvt_jax.tagger_folder import TaggerFolder

Picture = UInt8[np.ndarray, "_ _ 3"]

# ImageNet's, of pixels in [0, 1].
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


class Tagger:
    """Tells what is in pictures.

    Attributes:
        tags: every tag that it knows.
    """

    def __init__(self, folder: TaggerFolder) -> None:
        self.tags = list(folder.card.tags)
        self._thresholds = np.array([*folder.card.tags.values()], np.float32)
        self._network = RAM(folder.config)
        self._params = jax.device_put(folder.params)

    def probabilities(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "b n"]:
        """Give the probability of every tag; a program is compiled for each number of pictures."""
        side = self._network.config.swin.image_size
        images = np.stack([normalise(shrink(picture, side)) for picture in pictures])
        return np.asarray(_probabilities(self._network, self._params, images))

    def __call__(self, pictures: Sequence[Picture]) -> list[list[str]]:
        """Give each picture's tags: those whose probability is above their threshold, in the order of the list."""
        found = self.probabilities(pictures) > self._thresholds
        return [[self.tags[i] for i in np.flatnonzero(row)] for row in found]


def as_prompt(tags: Sequence[str], words: str) -> str:
    """Put tags before a model's own prompt as the release does; also where there are none."""
    return f"{', '.join(tags)}, {words}"


def shrink(picture: Picture, side: int) -> Float[np.ndarray, "s s 3"]:
    """Resize to a square, in [0, 255], by torch's bilinear filter without antialiasing: four pixels make one."""
    (top, bottom, down), (left, right, across) = (_neighbours(length, side) for length in picture.shape[:2])
    rows = _between(picture[top], picture[bottom], down[:, None, None])
    return _between(rows[:, left], rows[:, right], across[:, None])


def normalise(pixels: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Give pixels in [0, 255] as the network takes them."""
    return (pixels / np.float32(255) - _MEAN) / _DEVIATION


def _neighbours(length: int, count: int) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, " n"]]:
    """Give for each of `count` points over `length` pixels the pixels before and after it, and its place between."""
    place = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
    before = place.astype(int)
    return before, np.minimum(before + 1, length - 1), (place - before).astype(np.float32)


def _between(before: np.ndarray, after: np.ndarray, share: np.ndarray) -> Float[np.ndarray, "*n"]:
    return before * (1 - share) + after * share


@partial(jax.jit, static_argnames=("network",))
def _probabilities(network: RAM, params: PyTree, images: Float[np.ndarray | Array, "b h w 3"]) -> Array:
    # Accelerators would round the factors of products otherwise, and tags near their threshold would come and go.
    with jax.default_matmul_precision("highest"):
        return jax.nn.sigmoid(network.apply({"params": params}, images))
