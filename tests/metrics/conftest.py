"""The benchmark's published results, where the folder with them is there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCH = Path(__file__).parents[3] / "shared/bench/realsr"


@pytest.fixture(scope="session")
def published() -> dict[str, dict[str, float]]:
    """pyiqa's values by image and metric, from the log that lies beside OSEDiff's results."""
    logs = list((BENCH / "results_osediff/metrics").glob("*.log"))
    if not logs:
        pytest.skip("the benchmark images are not here")
    lines = re.findall(r"results_osediff/(\S+) \| (.*) \|", logs[0].read_text())
    return {name: {k: float(v) for k, v in re.findall(r"(\w+): ([\d.]+)", values)} for name, values in lines}


@pytest.fixture(params=["Canon_003_LR4.png", "Nikon_048_LR4.png"])
def published_pair(request, published):
    """(result, truth, pyiqa's values)."""
    name = request.param
    return _read(BENCH / "results_osediff" / name), _read(BENCH / "test_HR" / name), published[name]


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """A textured uint8 image of odd size and a noisier one."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:37, :45] / 5
    smooth = np.stack([np.sin(rows), np.cos(columns), np.sin(rows * columns / 4)], axis=-1) * 90 + 128
    noisy = smooth + 12 * generator.standard_normal(smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), smooth.astype(np.uint8)


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))
