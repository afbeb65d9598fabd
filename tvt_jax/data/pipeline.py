"""Batches of training crops: an endless order that depends on the seed alone, made ahead on the host by Grain."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import grain
import numpy as np
from absl import flags
from jaxtyping import Float16, UInt8

from tvt_jax.data.degradation import Degradation, degrade
from tvt_jax.data.pairs import PairSource
from tvt_jax.data.prompts import Prompts
from tvt_jax.data.sources import Described, Item, Pair, ReadableSource, open_source
from tvt_jax.place import check, local_only

PREFETCHED_BATCHES = 4

# The low-resolution crops are smaller, so the sides are not bound to one size.
Example = dict[str, UInt8[np.ndarray, "_ _ 3"] | Float16[np.ndarray, "n d"]]
Batch = dict[str, UInt8[np.ndarray, "b _ _ 3"] | Float16[np.ndarray, "b n d"]]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What to train on.

    Attributes:
        path: Folder of images, text file that names one a line, folder of tiles written by `tvt_jax.data.prepare`, or
            of text by tools/fetch_text.py; all but the last also as gs://BUCKET/NAME.
        lr_path: Folder of real low-resolution counterparts of the images of `path`, in place of degraded ones.
        mixed: Further folders, each with how many of its images come for one of `path`'s, as in
            `(("ffhq", 0.1),)`; they are degraded.
        crop: Side of the square crops in pixels; smaller images are continued by their mirror image.
        batch: Crops in a batch, over all processes.
        scale: How many times as large as the low-resolution crops the crops are.
        degradation: How the low-resolution crops are made; None for high-resolution crops alone.
        clean: Share of the low-resolution crops that are averaged down, not degraded, as of a screenshot.
        workers: Worker processes; with 0, threads of this process make the batches ahead.
        flips: Whether to turn and mirror the crops of photos by chance; text stays as it is.
        enlarge: Least and most by which crops are enlarged (bicubic, before they are degraded), from 1. Photos from
            the registries are sharp to the pixel; a camera's full-size picture is soft.
        prompts: Folder of the images' texts, encoded by `tvt_jax.data.encode`; None for images alone.
        empty_prompt: Share of the images that come with the empty prompt: none in the releases of TVT and OSEDiff, half
            in PiSA-SR's.
    """

    path: str
    lr_path: str | None = None
    mixed: tuple[tuple[str, float], ...] = ()
    crop: int = 128
    batch: int = 16
    scale: int = 4
    degradation: Degradation | None = None
    clean: float = 0.0
    workers: int = 0
    flips: bool = True
    enlarge: tuple[float, float] = (1.0, 1.0)
    prompts: str | None = None
    empty_prompt: float = 0.0

    def __post_init__(self) -> None:
        for path in filter(None, (self.path, self.lr_path, *(path for path, _ in self.mixed))):
            check(path, "gs")
        for name, least in (("crop", 1), ("batch", 1), ("scale", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if (self.degradation or self.lr_path) and self.crop % self.scale:
            raise ValueError(
                f"crop={self.crop} must be a multiple of {self.scale} for low resolution at 1/{self.scale} of it"
            )
        if self.lr_path and self.mixed and not self.degradation:
            raise ValueError(f"lr_path is for {self.path} alone: what is mixed in needs a degradation, or crops differ")
        if not 0 <= self.clean <= 1:
            raise ValueError(f"clean={self.clean} must be a share, from 0 to 1")
        if not 0 <= self.empty_prompt <= 1:
            raise ValueError(f"empty_prompt={self.empty_prompt} must be a share, from 0 to 1")
        if self.empty_prompt and not self.prompts:
            raise ValueError(f"empty_prompt={self.empty_prompt} needs prompts: name a folder of them")
        local_only(self.prompts)
        if not 1 <= self.enlarge[0] <= self.enlarge[1]:
            raise ValueError(f"enlarge={self.enlarge} must be an increasing pair of numbers from 1")
        if self.lr_path and self.enlarge[1] > 1:
            raise ValueError(f"enlarge={self.enlarge} is for images that are degraded, not for the pairs of lr_path")
        if bad := [weight for _, weight in self.mixed if not weight > 0]:
            raise ValueError(f"mixed={self.mixed}: the weight {bad[0]} is not positive")


class BatchIterator:
    """This process's rows of the batches, without end; its state is the number of batches taken.

    With `b` rows a process, process `p` has rows `p b` to `p b + b` of every global batch, so that the global
    batch is the same however many processes share it.
    """

    def __init__(self, examples: grain.MapDataset, config: DataConfig, process_index: int, process_count: int) -> None:
        if config.batch % process_count:
            raise ValueError(f"a batch of {config.batch} cannot be shared by {process_count} processes evenly")
        self._rows = examples.batch(config.batch // process_count, drop_remainder=True)
        self._workers = config.workers
        self._process = process_index, process_count
        self._taken = 0
        self._ahead: Any = None

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Batch:
        if self._ahead is None:
            self._ahead = iter(self._start())
        batch = next(self._ahead)
        self._taken += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Return the number of batches taken, fit for JSON; it is the same in every process."""
        return {"batches": self._taken}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on after so many batches, also with other numbers of workers and processes."""
        self.close()
        self._taken = int(state["batches"])

    def close(self) -> None:
        """Stop threads and workers; the next batch starts them again."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _start(self) -> grain.IterDataset:
        index, count = self._process
        rows = self._rows[self._taken * count + index :: count]
        threads = grain.ReadOptions(num_threads=1, prefetch_buffer_size=PREFETCHED_BATCHES)
        dataset = rows.to_iter_dataset(threads)
        if self._workers:
            _allow_worker_processes()
            dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=self._workers))
        return dataset


@dataclass(frozen=True, kw_only=True)
class MakeExample(grain.transforms.RandomMap):
    """Image or pair -> {'hr': crop} and, where wanted, {'lr': crop / scale}, by a generator keyed by position.

    With its text, {'prompt': the text, encoded} too; by chance the empty one.
    """

    crop: int
    flips: bool
    enlarge: tuple[float, float]
    scale: int
    degradation: Degradation | None
    clean: float
    prompts: Prompts | None = None
    empty_prompt: float = 0.0

    def random_map(self, element: Item | Described, rng: np.random.Generator) -> Example:
        """Make one example."""
        if not isinstance(element, Described):
            return self._of_item(element, rng)
        assert self.prompts is not None  # for the type checker: texts are asked for with it
        example = self._of_item(element.item, rng)
        text = "" if rng.random() < self.empty_prompt else element.text
        return {**example, "prompt": self.prompts[text]}

    def _of_item(self, element: Item, rng: np.random.Generator) -> Example:
        if isinstance(element, Pair):
            return self._of_pair(element, rng)
        hr = enlarged_crop(element, self.crop, rng.uniform(*self.enlarge), rng)
        if self.flips:
            hr = turned(hr, random_symmetry(rng))
        if self.degradation is None:
            return {"hr": hr}
        if self.clean and rng.random() < self.clean:
            side = self.crop // self.scale
            return {"hr": hr, "lr": cv2.resize(hr, (side, side), interpolation=cv2.INTER_AREA)}
        return {"hr": hr, "lr": degrade(hr, self.degradation, rng, self.scale)}

    def _of_pair(self, pair: Pair, rng: np.random.Generator) -> Example:
        """Cut both at the same place and turn them alike."""
        scale, lr_crop = self.scale, self.crop // self.scale
        lr, hr = mirrored(pair.lr, lr_crop), mirrored(pair.hr, self.crop)
        top, left = random_corner(lr, lr_crop, rng)
        symmetry = random_symmetry(rng) if self.flips else 0
        hr = hr[scale * top : scale * top + self.crop, scale * left : scale * left + self.crop]
        lr = lr[top : top + lr_crop, left : left + lr_crop]
        return {"hr": turned(hr, symmetry), "lr": turned(lr, symmetry)}


def batch_shapes(config: DataConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the images that `make_iterator` gives to all processes together."""
    shapes: dict[str, tuple[int, ...]] = {"hr": (config.batch, config.crop, config.crop, 3)}
    if config.degradation or config.lr_path:
        low = config.crop // config.scale
        shapes["lr"] = (config.batch, low, low, 3)
    return shapes


def make_iterator(config: DataConfig, seed: int, process_index: int = 0, process_count: int = 1) -> BatchIterator:
    """Give batches {'hr': [b crop crop 3]} and, where there is one, {'lr': [b low low 3]}, uint8 RGB, without end.

    Where the config has prompts, {'prompt': [b n d]} besides, float16.

    Batch k depends on (seed, k) alone: not on the number of workers or processes, nor on interruptions. Every image
    of a source is met once in an epoch of its own, in a new order each time.

    Raises:
        FileNotFoundError: There are no images at `config.path` or at one of the others, or no prompts.
        ValueError: The processes cannot share the batch evenly, or an image has no counterpart, or its text no prompt.
    """
    # Batches are cut from the endless row of examples only after these, as else the number of workers would show.
    return BatchIterator(_examples(config, seed), config, process_index, process_count)


def _examples(config: DataConfig, seed: int) -> grain.MapDataset:
    """Make the endless row of examples, in the order in which their images are met."""
    prompts = Prompts(config.prompts) if config.prompts else None
    described = prompts is not None
    if config.lr_path:
        first = ReadableSource(PairSource(config.path, config.lr_path, config.scale), described)
    else:
        first = open_source(config.path, described)
    sources = [first, *(open_source(path, described) for path, _ in config.mixed)]
    if prompts:
        prompts.require({""}.union(*(source.texts() for source in sources)))
    rows = [
        grain.MapDataset.source(source).seed(seed + i).shuffle().repeat().random_map(_make(config, source, prompts))
        for i, source in enumerate(sources)
    ]
    if not config.mixed:
        return rows[0]
    return grain.MapDataset.mix(rows, weights=[1.0, *(weight for _, weight in config.mixed)])


def _make(config: DataConfig, source: ReadableSource, prompts: Prompts | None) -> MakeExample:
    return MakeExample(
        crop=config.crop,
        flips=config.flips and not source.upright,
        enlarge=config.enlarge,
        scale=config.scale,
        degradation=config.degradation,
        clean=config.clean,
        prompts=prompts,
        empty_prompt=config.empty_prompt,
    )


def random_crop(
    image: UInt8[np.ndarray, "h w 3"], size: int, generator: np.random.Generator
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a square at a random place; continue an image that is too small by its mirror image."""
    image = mirrored(image, size)
    top, left = random_corner(image, size, generator)
    return image[top : top + size, left : left + size]


def enlarged_crop(
    image: UInt8[np.ndarray, "h w 3"], size: int, factor: float, generator: np.random.Generator
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a square at a random place of the image enlarged so many times (to whole pixels; bicubic)."""
    source = random_crop(image, math.ceil(size / factor), generator)
    if len(source) == size:
        return source
    return cv2.resize(source, (size, size), interpolation=cv2.INTER_CUBIC)


def mirrored(image: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Continue the image below and to the right by its mirror image where it is smaller than `size`."""
    missing = [max(0, size - length) for length in image.shape[:2]]
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric") if any(missing) else image


def random_corner(image: UInt8[np.ndarray, "h w 3"], size: int, generator: np.random.Generator) -> tuple[int, int]:
    """Draw top and left of a square crop, each place as likely as any other."""
    top, left = (int(generator.integers(length - size, endpoint=True)) for length in image.shape[:2])
    return top, left


def random_symmetry(generator: np.random.Generator) -> int:
    """Draw the number of one of the eight turns and mirror images; 0 leaves an image as it is."""
    return int(generator.integers(8))


def turned(image: UInt8[np.ndarray, "h w 3"], symmetry: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Turn and mirror the image as the symmetry of that number does."""
    turns, flipped = divmod(symmetry, 2)
    image = np.rot90(image, turns)
    return np.ascontiguousarray(image[:, ::-1] if flipped else image)


def _allow_worker_processes() -> None:
    # Grain's workers read absl's flags, which only programs that start through absl.app have parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
